-- Groups of near duplicates
--
-- Structures of one formula that hang together by pairs within a small distance, largest group
-- first: what to thin out before a fit. The ends of a long chain may lie further apart than the
-- distance.
--
-- model: the model
-- within = 0.005: the largest distance of a pair, in the model's mean between two atoms of one element
WITH pair AS MATERIALIZED (
    SELECT "group", structure_id, other, formula
    FROM near_duplicates(model := getvariable('model'), within := getvariable('within')::DOUBLE)
),
grouped AS (
    SELECT formula, list_sort(list(DISTINCT member)) AS members
    FROM (
        SELECT "group", formula, structure_id AS member FROM pair
        UNION ALL
        SELECT "group", formula, other FROM pair
    )
    GROUP BY "group", formula
)
SELECT len(members) AS structures, formula, members
FROM grouped
ORDER BY structures DESC, members;
