-- How well a structure is found again through another model
--
-- The share of structures that, seen by one model, come first (or among the ten first) in the
-- other's answers through the newest shared space. The space was fitted on anchor atoms that some
-- of these structures hold; the calibrated score with its null is `align`.
--
-- model: the model that asks
-- other: the model that answers
SELECT
    getvariable('model') AS model, getvariable('other') AS other,
    count(DISTINCT structure_id) AS structures,
    count(*) FILTER (structure_id = neighbour AND rank = 1) / count(DISTINCT structure_id) AS recall_1,
    count(*) FILTER (structure_id = neighbour) / count(DISTINCT structure_id) AS recall_10,
    10 / count(DISTINCT structure_id) AS recall_10_by_chance
FROM neighbours(model := getvariable('model'), across := getvariable('other'), k := 10);
