-- Near duplicates within a distance
--
-- Pairs of structures that lie within a small distance of one another according to a model. Alike to
-- the model is not the same crystal: compare the formulas and the structures themselves. Of more
-- than 20 duplicates of one structure the nearest 20 are listed.
--
-- model: the model
-- within = 0.01: the largest distance (1 − cosine)
WITH pair AS (
    SELECT least(structure_id, neighbour) AS structure_id, greatest(structure_id, neighbour) AS other, min(distance) AS distance
    FROM neighbours(model := getvariable('model'), k := 20)
    WHERE distance <= getvariable('within')::DOUBLE
    GROUP BY ALL
)
SELECT
    pair.distance, a.structure_id, a.formula, a.spacegroup,
    b.structure_id AS other, b.formula AS other_formula, b.spacegroup AS other_spacegroup
FROM pair
JOIN structure AS a ON a.structure_id = pair.structure_id
JOIN structure AS b ON b.structure_id = pair.other
ORDER BY pair.distance, a.structure_id, b.structure_id;
