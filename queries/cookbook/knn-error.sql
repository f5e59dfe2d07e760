-- A property predicted by the neighbours' mean, and its error
--
-- Each structure's property as the mean over its k nearest of other compositions (those of its own
-- would give it away), against the mean of all. In the units of the property. It says how much of
-- a property the distances carry; a model fitted to it does better.
--
-- model: the model
-- property = band_gap: which property, numeric
-- k = 5: how many neighbours
WITH known AS (
    SELECT structure_id, formula, COLUMNS(lambda name: name = getvariable('property'))::DOUBLE AS value
    FROM structure
),
near AS (
    SELECT
        n.structure_id, a.value, b.value AS other,
        row_number() OVER (PARTITION BY n.structure_id ORDER BY n.rank) AS place
    FROM neighbours(model := getvariable('model'), k := getvariable('k')::INTEGER + 20) AS n
    JOIN known AS a ON a.structure_id = n.structure_id
    JOIN known AS b ON b.structure_id = n.neighbour
    WHERE a.formula != b.formula AND a.value IS NOT NULL AND b.value IS NOT NULL
),
predicted AS (
    SELECT structure_id, any_value(value) AS value, avg(other) AS prediction
    FROM near WHERE place <= getvariable('k')::INTEGER GROUP BY structure_id
)
SELECT
    getvariable('property') AS property, count(*) AS structures,
    avg(abs(prediction - value)) AS mae,
    avg(abs((SELECT avg(value) FROM known) - value)) AS mae_of_the_mean,
    1 - sum((prediction - value) ** 2) / (count(*) * var_pop(value)) AS r2
FROM predicted;
