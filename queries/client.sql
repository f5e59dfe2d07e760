-- The store's functions for the plain DuckDB client, in SQL alone. They are exact: each reads the
-- vectors it compares. For a filter, take many and choose: FROM similar_structures(…, k := 100000)
-- WHERE band_gap > 1 LIMIT 10.

CREATE OR REPLACE MACRO vector_table(space, model, layer, level) AS
    'vectors.main."'
    || regexp_replace(
        coalesce(space || '.', '') || model || '.' || coalesce(layer, default_layer(model))
        || '.' || level,
        '[^A-Za-z0-9_.-]', '_', 'g'
    )
    || '"';

-- The rows of a vector table that are committed.
CREATE OR REPLACE MACRO vector_rows(space, model, layer, level) AS TABLE
SELECT * FROM query_table(vector_table(space, model, layer, level))
WHERE chunk_id IN (
    SELECT chunk_id FROM catalog.main.table_appends
    WHERE committed AND 'vectors.main."' || table_name || '"' = vector_table(space, model, layer, level)
);

CREATE OR REPLACE MACRO similar_structures(
    query, model := NULL, layer := NULL, across := NULL, space := NULL, k := 10
) AS TABLE
WITH asked AS (
    SELECT vector FROM vector_rows(
        CASE WHEN across IS NULL AND space IS NULL THEN NULL ELSE space_id(space) END,
        model_or_first(model), layer, 'structure'
    )
    WHERE structure_id = query
),
hit AS (
    SELECT v.structure_id, array_cosine_distance(v.vector, asked.vector) AS distance
    FROM asked, vector_rows(
        CASE WHEN across IS NULL AND space IS NULL THEN NULL ELSE space_id(space) END,
        coalesce(across, model_or_first(model)),
        CASE WHEN across IS NULL THEN layer END, 'structure'
    ) AS v
    WHERE across IS NOT NULL OR v.structure_id != query
)
SELECT row_number() OVER (ORDER BY hit.distance, structure.id) AS rank, hit.distance, structure.*
FROM hit JOIN structure ON structure.id = hit.structure_id
ORDER BY rank
LIMIT k;

CREATE OR REPLACE MACRO similar_atoms(
    query, site, model := NULL, layer := NULL, across := NULL, space := NULL, k := 10
) AS TABLE
WITH asked AS (
    SELECT v.vector, v.orbit FROM vector_rows(
        CASE WHEN across IS NULL AND space IS NULL THEN NULL ELSE space_id(space) END,
        model_or_first(model), layer, 'atom'
    ) AS v
    WHERE v.structure_id = query AND v.site_index = site
),
hit AS (
    SELECT v.structure_id, v.site_index, array_cosine_distance(v.vector, asked.vector) AS distance
    FROM asked, vector_rows(
        CASE WHEN across IS NULL AND space IS NULL THEN NULL ELSE space_id(space) END,
        coalesce(across, model_or_first(model)),
        CASE WHEN across IS NULL THEN layer END, 'atom'
    ) AS v
    WHERE v.site_index = v.orbit
    AND (across IS NOT NULL OR v.structure_id != query OR v.orbit != asked.orbit)
    ORDER BY distance, v.structure_id, v.site_index
    LIMIT k
)
SELECT
    row_number() OVER (ORDER BY hit.distance, structure.id, hit.site_index) AS rank, hit.distance,
    hit.site_index, s.element, s.multiplicity, structure.*
FROM hit
JOIN structure ON structure.id = hit.structure_id
JOIN site AS s ON s.structure_id = hit.structure_id AND s.site_index = hit.site_index
ORDER BY rank;

CREATE OR REPLACE MACRO embedding(
    query, site := NULL, model := NULL, layer := NULL, space := NULL
) AS (
    SELECT any_value(vector) FROM (
        SELECT structure_id, NULL AS site_index, vector::FLOAT[] AS vector
        FROM vector_rows(
            CASE WHEN space IS NOT NULL THEN space_id(space) END,
            model_or_first(model), layer, 'structure'
        )
        UNION ALL
        SELECT structure_id, v.site_index, vector::FLOAT[] AS vector
        FROM vector_rows(
            CASE WHEN space IS NOT NULL THEN space_id(space) END,
            model_or_first(model), layer, 'atom'
        ) AS v
    ) WHERE structure_id = query AND site_index IS NOT DISTINCT FROM site
);

-- Of what `score` judged: one structure, or the least typical ones.
CREATE OR REPLACE MACRO typicality(
    query, model := NULL, layer := NULL, level := 'structure'
) AS TABLE
WITH judged AS (
    SELECT t.* EXCLUDE (neighbours) FROM typicality AS t WHERE level = 'structure'
    UNION ALL BY NAME
    SELECT t.* FROM atom_typicality AS t WHERE level = 'atom'
)
SELECT j.* FROM judged AS j
WHERE j.id = query AND j.model = model_or_first(model)
AND j.layer = coalesce(layer, default_layer(model_or_first(model)));

CREATE OR REPLACE MACRO outliers(
    model := NULL, layer := NULL, k := 20, level := 'structure'
) AS TABLE
WITH judged AS (
    SELECT t.* EXCLUDE (neighbours) FROM typicality AS t WHERE level = 'structure'
    UNION ALL BY NAME
    SELECT t.* FROM atom_typicality AS t WHERE level = 'atom'
)
SELECT row_number() OVER (ORDER BY j.atypicality DESC, j.id, j.site_index) AS rank, j.*
FROM judged AS j
WHERE j.model = model_or_first(model)
AND j.layer = coalesce(layer, default_layer(model_or_first(model)))
ORDER BY rank
LIMIT k;
