-- How often the nearest neighbour has the same space group
--
-- For each space group the share of its structures whose nearest neighbour of another composition
-- has it too, beside the share that chance would give. A model need not know space groups to score:
-- structure types do.
--
-- model: the model
-- structures = 10: space groups with at least so many structures
WITH near AS (
    SELECT
        a.structure_id, a.spacegroup, b.spacegroup AS other,
        row_number() OVER (PARTITION BY a.structure_id ORDER BY n.rank) AS place
    FROM neighbours(model := getvariable('model'), k := 20) AS n
    JOIN structure AS a ON a.structure_id = n.structure_id
    JOIN structure AS b ON b.structure_id = n.neighbour
    WHERE a.formula != b.formula
)
SELECT
    spacegroup, count(*) AS structures,
    avg((spacegroup = other)::INTEGER) AS same,
    count(*) / (SELECT count(*) FROM near WHERE place = 1) AS by_chance
FROM near
WHERE place = 1
GROUP BY spacegroup
HAVING structures >= getvariable('structures')::INTEGER
ORDER BY same DESC, spacegroup;
