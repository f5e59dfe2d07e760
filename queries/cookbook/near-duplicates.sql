-- Near duplicates within a distance
--
-- Pairs of structures of one formula that are all but the same crystal to a model, nearest first.
-- Polytypes are near, too: to the model they are the same atoms. `near_duplicates` has a check by
-- StructureMatcher.
--
-- model: the model
-- within = 0.005: the largest distance, in the model's mean between two atoms of one element
SELECT distance, structure_id, other, formula, spacegroup, spacegroup_other, volume_ratio
FROM near_duplicates(model := getvariable('model'), within := getvariable('within')::DOUBLE)
ORDER BY distance, structure_id, other;
