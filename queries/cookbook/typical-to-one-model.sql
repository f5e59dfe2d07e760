-- Oxides that one model finds typical and another does not
--
-- Structures with an element whose conformal p-value is high by one model and low by another.
-- Typicality is not confidence: it says how like the reference an environment looks to a model,
-- not how right the model is about it.
--
-- needs: scores
-- model: the model that finds them typical
-- other: the model that does not
-- element = O: which element they hold
-- typical = 0.5: the smallest p by the first
-- atypical = 0.05: the largest p by the other
SELECT
    s.structure_id, s.formula, s.spacegroup, a.p, b.p AS other_p, b.element AS least_typical,
    b.site_index AS site, b.nearest_id
FROM typicality AS a
JOIN typicality AS b USING (structure_id)
JOIN structure AS s USING (structure_id)
WHERE a.model = getvariable('model') AND b.model = getvariable('other')
AND list_contains(s.elements, getvariable('element'))
AND a.p >= getvariable('typical')::DOUBLE AND b.p <= getvariable('atypical')::DOUBLE
ORDER BY a.p - b.p DESC, s.structure_id;
