-- Elements with few atoms
--
-- How often each element occurs, the rarest first. `sites` counts symmetry-equivalent atoms once.
-- Where they are few, neighbours and scores of that element rest on little.
--
-- fewer = 100: elements with fewer distinct sites than this
SELECT
    element, count(DISTINCT structure_id) AS structures, count(*) AS atoms,
    count(*) FILTER (site_index = orbit) AS sites
FROM site
GROUP BY element
HAVING sites < getvariable('fewer')::INTEGER
ORDER BY sites, element;
