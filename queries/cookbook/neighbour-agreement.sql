-- How far two models agree on the nearest neighbours
--
-- Over the structures that both have embedded: the share with the same nearest neighbour, and the
-- mean share of the k nearest that they have in common, beside what chance gives. Agreement is not
-- truth: two models of the same training data may share their errors.
--
-- model: one model
-- other: the other
-- k = 10: how many neighbours
WITH one AS (
    SELECT structure_id, list(neighbour ORDER BY rank) AS near
    FROM neighbours(model := getvariable('model'), k := getvariable('k')::INTEGER) GROUP BY structure_id
),
two AS (
    SELECT structure_id, list(neighbour ORDER BY rank) AS near
    FROM neighbours(model := getvariable('other'), k := getvariable('k')::INTEGER) GROUP BY structure_id
)
SELECT
    getvariable('model') AS model, getvariable('other') AS other, count(*) AS structures,
    avg((one.near[1] = two.near[1])::INTEGER) AS same_nearest,
    avg(len(list_intersect(one.near, two.near)) / len(one.near)) AS overlap,
    getvariable('k')::INTEGER / (count(*) - 1) AS by_chance
FROM one JOIN two USING (structure_id);
