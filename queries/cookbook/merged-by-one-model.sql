-- Polymorphs that one model cannot tell apart and another can
--
-- Pairs of one composition and different space groups that are near by one model and far by the
-- other. Distances of two models are not on one scale: each is given in units of its own model's
-- median distance to a nearest neighbour. Null: beyond the other's 200 nearest.
--
-- model: the model that merges
-- other: the model that tells apart
-- within = 0.1: the largest distance to the first, in its units
-- apart = 0.3: the smallest distance to the other, in its units
WITH one AS (FROM neighbours(model := getvariable('model'), k := 50)),
two AS (FROM neighbours(model := getvariable('other'), k := 200)),
near AS (
    SELECT *, distance / (SELECT median(distance) FROM one WHERE rank = 1) AS units FROM one
),
far AS (
    SELECT *, distance / (SELECT median(distance) FROM two WHERE rank = 1) AS units FROM two
)
SELECT
    a.formula, a.id, a.spacegroup, b.id AS other, b.spacegroup AS other_spacegroup,
    near.units AS merged_units, far.units AS other_units, far.rank AS other_rank
FROM near
JOIN structure AS a ON a.id = near.id
JOIN structure AS b ON b.id = near.neighbour
LEFT JOIN far ON far.id = near.id AND far.neighbour = near.neighbour
WHERE a.formula = b.formula AND a.spacegroup != b.spacegroup AND a.id < b.id
AND near.units <= getvariable('within')::DOUBLE
AND coalesce(far.units, 'inf') >= getvariable('apart')::DOUBLE
ORDER BY far.units DESC NULLS FIRST, near.units, a.id;
