-- Groups of near duplicates
--
-- Structures that hang together by pairs within a small distance, largest group first: what to thin
-- out before a fit. The ends of a long chain may lie further apart than the distance.
--
-- model: the model that looks
-- within = 0.01: the largest distance (1 − cosine) of a pair
WITH RECURSIVE near AS MATERIALIZED (
    SELECT id, neighbour FROM neighbours(model := getvariable('model'), k := 20)
    WHERE distance <= getvariable('within')::DOUBLE
),
pair AS MATERIALIZED (
    SELECT id, neighbour AS other FROM near
    UNION
    SELECT neighbour, id FROM near
),
reached AS (
    SELECT id, id AS member FROM pair
    UNION
    SELECT reached.id, pair.other FROM reached JOIN pair ON pair.id = reached.member
),
grouped AS (
    SELECT DISTINCT list_sort(list(DISTINCT member)) AS members FROM reached GROUP BY id
)
SELECT
    len(members) AS structures,
    (
        SELECT list_sort(list(DISTINCT formula)) FROM structure WHERE list_contains(members, id)
    ) AS formulas,
    members
FROM grouped
ORDER BY structures DESC, members;
