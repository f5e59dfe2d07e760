-- The least typical sites of each element
--
-- For every element its most atypical sites by one model, and the share of its sites that lie
-- below p = 0.05 (one in twenty, where all is typical). Typicality is not confidence.
--
-- needs: scores
-- model: the model
-- k = 3: how many of each element
WITH site_score AS (
    SELECT
        *, avg((p <= 0.05)::INTEGER) OVER (PARTITION BY element) AS share_below,
        row_number() OVER (
            PARTITION BY element ORDER BY p, atypicality DESC, structure_id, site_index
        ) AS place
    FROM atom_typicality
    WHERE model = getvariable('model')
)
SELECT
    t.element, t.share_below, t.place, t.structure_id, s.formula, t.site_index, t.p, t.atypicality,
    t.nearest_id, t.nearest_site
FROM site_score AS t
JOIN structure AS s USING (structure_id)
WHERE t.place <= getvariable('k')::INTEGER
ORDER BY t.share_below DESC, t.element, t.place;
