-- Which element may stand in for another
--
-- Elements that take the place of one in its crystals' near neighbours of the same stoichiometry
-- and space group, all other elements kept, most often first. A habit of the crystals in this
-- store as a model sees them, not an energy of substitution.
--
-- model: the model
-- element = Ca: what is to be replaced
-- k = 20: how many neighbours of each crystal are looked at
WITH composition AS (
    SELECT structure_id, list(atoms) AS counts
    FROM (SELECT structure_id, element, count(*) AS atoms FROM site GROUP BY ALL)
    GROUP BY structure_id
),
kind AS (
    SELECT
        s.*, list_sort([n // list_reduce(counts, lambda a, b: gcd(a, b)) FOR n IN counts]) AS counts
    FROM composition JOIN structure AS s USING (structure_id)
)
SELECT
    [e FOR e IN o.elements IF NOT list_contains(k.elements, e)][1] AS substitute,
    count(DISTINCT k.structure_id) AS structures, median(n.distance) AS distance,
    arg_min(k.formula || ' → ' || o.formula, n.distance) AS closest
FROM neighbours(model := getvariable('model'), k := getvariable('k')::INTEGER) AS n
JOIN kind AS k ON k.structure_id = n.structure_id
JOIN kind AS o ON o.structure_id = n.neighbour
WHERE list_contains(k.elements, getvariable('element'))
AND NOT list_contains(o.elements, getvariable('element'))
AND o.counts = k.counts AND o.spacegroup = k.spacegroup
AND len(list_intersect(o.elements, k.elements)) = len(k.elements) - 1
GROUP BY substitute
ORDER BY structures DESC, distance;
