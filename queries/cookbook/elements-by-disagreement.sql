-- Elements ranked by how much two models disagree
--
-- One minus the mean share of the k nearest neighbours that two models have in common, over the
-- structures that hold the element. Read it against the mean over all structures, beside it. A
-- rare element's structures have few neighbours to agree on: the count is given.
--
-- model: one model
-- other: the other
-- k = 10: how many neighbours
-- structures = 10: elements in at least so many structures
WITH one AS (
    SELECT structure_id, list(neighbour) AS near
    FROM neighbours(model := getvariable('model'), k := getvariable('k')::INTEGER) GROUP BY structure_id
),
two AS (
    SELECT structure_id, list(neighbour) AS near
    FROM neighbours(model := getvariable('other'), k := getvariable('k')::INTEGER) GROUP BY structure_id
),
compared AS (
    SELECT structure_id, 1 - len(list_intersect(one.near, two.near)) / len(one.near) AS disagreement
    FROM one JOIN two USING (structure_id)
)
SELECT
    element, count(*) AS structures, avg(disagreement) AS disagreement,
    (SELECT avg(disagreement) FROM compared) AS of_all
FROM (
    SELECT unnest(elements) AS element, disagreement FROM compared JOIN structure USING (structure_id)
)
GROUP BY element
HAVING structures >= getvariable('structures')::INTEGER
ORDER BY disagreement DESC, element;
