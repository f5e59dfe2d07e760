-- A property predicted by the neighbours' mean, and its error
--
-- Each structure's property as the mean over its k nearest of other compositions (those of its own
-- would give it away), against the mean of all. In the units of the property. It says how much of
-- a property the distances carry; a model fitted to it does better.
--
-- model: the model that looks
-- property = band_gap: which property, numeric
-- k = 5: how many neighbours
WITH known AS (
    SELECT id, formula, COLUMNS(lambda name: name = getvariable('property'))::DOUBLE AS value
    FROM structure
),
near AS (
    SELECT
        n.id, a.value, b.value AS other,
        row_number() OVER (PARTITION BY n.id ORDER BY n.rank) AS place
    FROM neighbours(model := getvariable('model'), k := getvariable('k')::INTEGER + 20) AS n
    JOIN known AS a ON a.id = n.id
    JOIN known AS b ON b.id = n.neighbour
    WHERE a.formula != b.formula AND a.value IS NOT NULL AND b.value IS NOT NULL
),
predicted AS (
    SELECT id, any_value(value) AS value, avg(other) AS prediction
    FROM near WHERE place <= getvariable('k')::INTEGER GROUP BY id
)
SELECT
    getvariable('property') AS property, count(*) AS structures,
    avg(abs(prediction - value)) AS mae,
    avg(abs((SELECT avg(value) FROM known) - value)) AS mae_of_the_mean,
    1 - sum((prediction - value) ** 2) / (count(*) * var_pop(value)) AS r2
FROM predicted;
