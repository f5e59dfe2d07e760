-- Look-alikes without an element
--
-- For each structure with an element that you want to be rid of, the k most alike without it.
-- Alike in structure and bonding according to the model; that they do the same work is not said.
--
-- model: the model
-- element = Pb: what must not be in the answers
-- k = 3: how many of each
SELECT
    a.structure_id, a.formula, n.rank, n.distance, b.structure_id AS other, b.formula AS other_formula,
    b.spacegroup = a.spacegroup AS is_same_spacegroup
FROM neighbours(
    model := getvariable('model'), k := getvariable('k')::INTEGER,
    "where" := format('NOT list_contains(elements, ''{}'')', getvariable('element'))
) AS n
JOIN structure AS a ON a.structure_id = n.structure_id
JOIN structure AS b ON b.structure_id = n.neighbour
WHERE list_contains(a.elements, getvariable('element'))
ORDER BY a.structure_id, n.rank;
