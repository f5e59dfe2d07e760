-- Polymorphs that one model cannot tell apart and another can
--
-- Pairs of one composition and different space groups that one model puts together and the other
-- farther apart. Distances of two models are not on one scale: each is given in units of its own
-- model's median distance to a nearest neighbour. Null: beyond the other's 50 nearest.
--
-- model: the model that collapses them
-- other: the model that tells apart
-- within = 0.5: the largest distance to the first, in its units
-- times = 3: how many times farther the other puts them, at least
WITH one AS MATERIALIZED (FROM neighbours(model := getvariable('model'), k := 50)),
two AS MATERIALIZED (FROM neighbours(model := getvariable('other'), k := 50)),
near AS (
    SELECT *, distance / (SELECT median(distance) FROM one WHERE rank = 1) AS units FROM one
),
far AS (
    SELECT *, distance / (SELECT median(distance) FROM two WHERE rank = 1) AS units FROM two
)
SELECT
    a.formula, a.structure_id, a.spacegroup, b.structure_id AS other, b.spacegroup AS other_spacegroup,
    near.units AS collapsed_units, far.units AS other_units, far.rank AS other_rank
FROM near
JOIN structure AS a ON a.structure_id = near.structure_id
JOIN structure AS b ON b.structure_id = near.neighbour
LEFT JOIN far ON far.structure_id = near.structure_id AND far.neighbour = near.neighbour
WHERE a.formula = b.formula AND a.spacegroup != b.spacegroup AND a.structure_id < b.structure_id
AND near.units <= getvariable('within')::DOUBLE
AND coalesce(far.units, 'inf') >= getvariable('times')::DOUBLE * near.units
ORDER BY far.units DESC NULLS FIRST, near.units, a.structure_id;
