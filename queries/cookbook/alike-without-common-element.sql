-- Alike though they share no element
--
-- Nearest neighbours without an element in common, the closest first: the same structure type in
-- another chemistry, as a model sees it.
--
-- model: the model
SELECT
    n.distance, a.structure_id, a.formula, a.spacegroup, b.structure_id AS other, b.formula AS other_formula,
    b.spacegroup AS other_spacegroup
FROM neighbours(model := getvariable('model'), k := 1) AS n
JOIN structure AS a ON a.structure_id = n.structure_id
JOIN structure AS b ON b.structure_id = n.neighbour
WHERE len(list_intersect(a.elements, b.elements)) = 0
ORDER BY n.distance, a.structure_id
LIMIT 100;
