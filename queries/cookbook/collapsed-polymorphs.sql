-- Polymorphs that a model cannot tell apart
--
-- Pairs of one composition and different space groups that lie within a small distance of one
-- another according to a model. The space group is the store's, found at its tolerance: a slightly
-- distorted twin of a symmetric crystal counts as a polymorph too.
--
-- model: the model
-- within = 0.01: the largest distance (1 − cosine)
SELECT
    n.distance, a.formula, a.structure_id, a.spacegroup, b.structure_id AS other, b.spacegroup AS other_spacegroup
FROM neighbours(model := getvariable('model'), k := 50) AS n
JOIN structure AS a ON a.structure_id = n.structure_id
JOIN structure AS b ON b.structure_id = n.neighbour
WHERE a.formula = b.formula AND a.spacegroup != b.spacegroup AND a.structure_id < b.structure_id
AND n.distance <= getvariable('within')::DOUBLE
ORDER BY n.distance, a.structure_id, b.structure_id;
