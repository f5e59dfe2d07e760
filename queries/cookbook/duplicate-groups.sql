-- Groups of near duplicates
--
-- Structures that hang together by pairs within a small distance, largest group first: what to thin
-- out before a fit. The ends of a long chain may lie further apart than the distance.
--
-- model: the model
-- within = 0.01: the largest distance (1 − cosine) of a pair
WITH RECURSIVE near AS MATERIALIZED (
    SELECT structure_id, neighbour FROM neighbours(model := getvariable('model'), k := 20)
    WHERE distance <= getvariable('within')::DOUBLE
),
pair AS MATERIALIZED (
    SELECT structure_id, neighbour AS other FROM near
    UNION
    SELECT neighbour, structure_id FROM near
),
reached AS (
    SELECT structure_id, structure_id AS member FROM pair
    UNION
    SELECT reached.structure_id, pair.other FROM reached JOIN pair ON pair.structure_id = reached.member
),
grouped AS (
    SELECT DISTINCT list_sort(list(DISTINCT member)) AS members FROM reached GROUP BY structure_id
)
SELECT
    len(members) AS structures,
    (
        SELECT list_sort(list(DISTINCT formula)) FROM structure WHERE list_contains(members, structure_id)
    ) AS formulas,
    members
FROM grouped
ORDER BY structures DESC, members;
