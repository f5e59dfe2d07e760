-- The loneliest structures
--
-- Structures by the distance to their nearest neighbour, the farthest first: outliers without a
-- reference, a score or a threshold. A store that holds few of a kind makes that kind lonely.
--
-- model: the model
SELECT n.distance, s.structure_id, s.formula, s.spacegroup, n.neighbour, o.formula AS neighbour_formula
FROM neighbours(model := getvariable('model'), k := 1) AS n
JOIN structure AS s ON s.structure_id = n.structure_id
JOIN structure AS o ON o.structure_id = n.neighbour
ORDER BY n.distance DESC, s.structure_id
LIMIT 100;
