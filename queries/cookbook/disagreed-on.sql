-- What the models disagree on most
--
-- Structures by how little the models agree on which typical atoms are most like one of theirs, at
-- the site where they agree least, with the conformal p-value of that. Disagreement says that at
-- least one model is wrong about what is alike, not which; agreement says nothing. Controls are
-- left out.
--
-- needs: scores
-- atypical = 0.05: the largest p of the disagreement
SELECT
    d.disagreement, d.p_disagreement, s.structure_id, s.formula, s.spacegroup, d.site_index, x.element,
    d.p AS consensus_p, len(d.models) AS models
FROM disagreement AS d
JOIN structure AS s USING (structure_id)
JOIN site AS x ON x.structure_id = d.structure_id AND x.site_index = d.site_index
WHERE d.p_disagreement <= getvariable('atypical')::DOUBLE
ORDER BY d.disagreement DESC, s.structure_id;
