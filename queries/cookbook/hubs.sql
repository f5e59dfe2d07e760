-- Hubs: what is the neighbour of most others
--
-- How often each structure is among the k nearest of others. In many dimensions a few points are
-- near to everything; a hub's rank in an answer says little. By chance each would come k times.
--
-- model: the model that looks
-- k = 10: how many neighbours
SELECT s.id, s.formula, s.spacegroup, count(*) AS times, getvariable('k')::INTEGER AS by_chance
FROM neighbours(model := getvariable('model'), k := getvariable('k')::INTEGER) AS n
JOIN structure AS s ON s.id = n.neighbour
GROUP BY s.id, s.formula, s.spacegroup
ORDER BY times DESC, s.id
LIMIT 100;
