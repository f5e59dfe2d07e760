-- Structures without a near neighbour of their own stoichiometry
--
-- Those of whose k nearest none has the same anonymous formula (A2B3, whatever A and B), the
-- loneliest first. New to this store is not new to the world.
--
-- model: the model
-- k = 10: how many neighbours are looked at
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
    k.structure_id, k.formula, min(n.distance) AS distance, arg_min(o.structure_id, n.rank) AS nearest,
    arg_min(o.formula, n.rank) AS nearest_formula
FROM neighbours(model := getvariable('model'), k := getvariable('k')::INTEGER) AS n
JOIN kind AS k ON k.structure_id = n.structure_id
JOIN kind AS o ON o.structure_id = n.neighbour
GROUP BY k.structure_id, k.formula
HAVING NOT bool_or(o.counts = k.counts)
ORDER BY distance DESC, k.structure_id;
