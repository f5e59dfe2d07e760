-- How alike the models are, pair by pair
--
-- One measure of alignment for every pair of models here, the least alike last: its value, what
-- chance gives, the calibrated score and its 95 % interval. That models agree does not say that
-- they are right; a control's row says how much of it needs no training.
--
-- measure = mutual_knn: mutual_knn, cknna, cka, rsa, procrustes, imbalance or retrieval@10
-- atoms = 500: how many atoms are compared, the same of all
SELECT x.a, x.b, x.value, x.null, x.calibrated, x.low, x.high, x.atoms
FROM model AS one
JOIN model AS two ON one.name < two.name,
    align([one.name, two.name], atoms := getvariable('atoms')::INTEGER) AS x
WHERE x.measure = getvariable('measure')
ORDER BY x.calibrated DESC, x.a, x.b;
