-- Hubs: what is the neighbour of most others
--
-- How often each structure is among the k nearest of others. In many dimensions a few points are
-- near to everything; a hub's rank in an answer says little. By chance each would come k times.
--
-- model: the model
-- k = 10: how many neighbours
SELECT s.structure_id, s.formula, s.spacegroup, count(*) AS times, getvariable('k')::INTEGER AS by_chance
FROM neighbours(model := getvariable('model'), k := getvariable('k')::INTEGER) AS n
JOIN structure AS s ON s.structure_id = n.neighbour
GROUP BY s.structure_id, s.formula, s.spacegroup
ORDER BY times DESC, s.structure_id
LIMIT 100;
