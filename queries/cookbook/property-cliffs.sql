-- Neighbours whose property differs most
--
-- Pairs that a model puts close together though a property of theirs is far apart: the model's
-- blind spot, a transition between them, or a wrong value in the source. It does not say which.
--
-- model: the model
-- property = band_gap: which property, numeric
-- within = 0.05: the largest distance (1 − cosine)
WITH known AS (
    SELECT structure_id, formula, COLUMNS(lambda name: name = getvariable('property'))::DOUBLE AS value
    FROM structure
)
SELECT
    a.structure_id, a.formula, b.structure_id AS other, b.formula AS other_formula, n.distance,
    a.value, b.value AS other_value, abs(a.value - b.value) AS difference
FROM neighbours(model := getvariable('model'), k := 5) AS n
JOIN known AS a ON a.structure_id = n.structure_id
JOIN known AS b ON b.structure_id = n.neighbour
WHERE n.distance <= getvariable('within')::DOUBLE AND a.structure_id < b.structure_id AND a.value != b.value
ORDER BY difference DESC, a.structure_id, b.structure_id
LIMIT 100;
