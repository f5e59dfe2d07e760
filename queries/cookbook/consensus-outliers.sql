-- What every model finds atypical
--
-- Structures whose conformal p-value is small by each model that has scored them, the smallest
-- largest p first. Often a wrong record or a rare chemistry. Typicality is not confidence.
--
-- needs: scores
-- atypical = 0.05: the largest p
SELECT
    s.structure_id, s.formula, s.spacegroup, count(*) AS models, max(t.p) AS largest_p, avg(t.p) AS mean_p,
    mode(t.element) AS least_typical
FROM typicality AS t
JOIN structure AS s USING (structure_id)
GROUP BY s.structure_id, s.formula, s.spacegroup
HAVING largest_p <= getvariable('atypical')::DOUBLE
ORDER BY largest_p, mean_p, s.structure_id;
