-- Elements on whose atoms the models' forces differ most
--
-- The median over the element's atoms of how far the committee's forces are apart, beside the
-- median size of their mean force, which it follows. It needs what `ingest --outputs energy,forces`
-- stores. Models that share data share errors: that they agree does not say that they are right.
--
-- atoms = 5: elements with at least so many atoms
SELECT
    element, count(*) AS atoms, median(spread) AS spread, median(force) AS force,
    median(spread) / greatest(median(force), 0.001) AS ratio
FROM atom_committee JOIN site USING (structure_id, site_index)
GROUP BY element
HAVING atoms >= getvariable('atoms')::INTEGER
ORDER BY spread DESC, element;
