-- The closest stable compounds to each unstable one
--
-- For every structure above the hull the k stable ones most alike to it. Alike to the model does
-- not mean that it decomposes into them: for that, ask the phase diagram.
--
-- needs: e_above_hull
-- model: the model
-- k = 5: how many of each
-- stable = 0: the highest energy above the hull, in eV an atom, that counts as stable
SELECT
    u.structure_id, u.formula, u.e_above_hull, n.rank, n.distance,
    s.structure_id AS stable, s.formula AS stable_formula, s.spacegroup AS stable_spacegroup
FROM neighbours(
    model := getvariable('model'), k := getvariable('k')::INTEGER,
    "where" := 'e_above_hull <= ' || getvariable('stable')
) AS n
JOIN structure AS u ON u.structure_id = n.structure_id
JOIN structure AS s ON s.structure_id = n.neighbour
WHERE u.e_above_hull > getvariable('stable')::DOUBLE
ORDER BY u.e_above_hull DESC, u.structure_id, n.rank;
