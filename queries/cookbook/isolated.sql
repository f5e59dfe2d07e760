-- The loneliest structures
--
-- Structures by the distance to their nearest neighbour, the farthest first: outliers without a
-- reference, a score or a threshold. A store that holds few of a kind makes that kind lonely.
--
-- model: the model that looks
SELECT n.distance, s.id, s.formula, s.spacegroup, n.neighbour, o.formula AS neighbour_formula
FROM neighbours(model := getvariable('model'), k := 1) AS n
JOIN structure AS s ON s.id = n.id
JOIN structure AS o ON o.id = n.neighbour
ORDER BY n.distance DESC, s.id
LIMIT 100;
