-- The store's functions for the plain DuckDB client, in SQL alone. They are exact: each reads the
-- vectors it compares. For a filter, take many and choose: FROM similar_structures(…, k := 100000)
-- WHERE band_gap > 1 LIMIT 10.

-- MODEL, MODEL@LAYER or in a space MODEL@0+1 as one; without a model the store's first. Without a
-- layer the default one, in a space what that takes of the model.
CREATE OR REPLACE MACRO model_name(model) AS split_part(model_or_first(model), '@', 1);

CREATE OR REPLACE MACRO model_layer(model) AS
    coalesce(
        nullif(split_part(model_or_first(model), '@', 2), '')::INTEGER,
        default_layer(model_name(model))
    );

CREATE OR REPLACE MACRO side_text(space, model) AS
    coalesce(
        nullif(split_part(model_or_first(model), '@', 2), ''),
        space_layers(space, model_name(model)),
        default_layer(model_name(model))::VARCHAR
    );

CREATE OR REPLACE MACRO vector_table(space, model, level) AS
    'vectors.main."'
    || regexp_replace(
        coalesce(space || '.', '') || model_name(model) || '.' || side_text(space, model) || '.' || level,
        '[^A-Za-z0-9_.-]', '_', 'g'
    )
    || '"';

-- The space of a question: none where one model answers in its own embeddings.
CREATE OR REPLACE MACRO question_space(across, space) AS
    CASE WHEN across IS NULL AND space IS NULL THEN NULL ELSE space_id(space) END;

-- The rows of a vector table that belong to the snapshot.
CREATE OR REPLACE MACRO vector_rows(space, model, level) AS TABLE
SELECT * FROM query_table(vector_table(space, model, level))
WHERE chunk_id IN (
    SELECT chunk_id FROM catalog.main.table_appends
    WHERE 'vectors.main."' || table_name || '"' = vector_table(space, model, level)
);

-- The same with the column `hub`, NULL where the space has none or the model asks itself: across
-- models rows come in the order of distance + hub / 2 (docs/recipes.md).
CREATE OR REPLACE MACRO answering_rows(space, model, across, level) AS TABLE
SELECT * REPLACE (if(model_name(coalesce(across, model)) != model_name(model), hub, NULL) AS hub)
FROM (
    SELECT * FROM vector_rows(space, coalesce(across, model), level)
    UNION ALL BY NAME SELECT NULL::FLOAT AS hub WHERE false
);

CREATE OR REPLACE MACRO similar_structures(
    query, model := NULL, across := NULL, space := NULL, k := 10
) AS TABLE
WITH asked AS (
    SELECT vector FROM vector_rows(question_space(across, space), model, 'structure')
    WHERE structure_id = query
),
hit AS (
    SELECT
        v.structure_id, array_cosine_distance(v.vector, asked.vector) AS distance,
        distance + coalesce(v.hub, 0) / 2 AS score
    FROM asked, answering_rows(question_space(across, space), model, across, 'structure') AS v
    WHERE model_name(coalesce(across, model)) != model_name(model) OR v.structure_id != query
)
SELECT
    row_number() OVER (ORDER BY hit.score, structure_id) AS rank, structure_id, hit.distance,
    structure.* EXCLUDE (structure_id)
FROM hit JOIN structure USING (structure_id)
ORDER BY rank
LIMIT k;

CREATE OR REPLACE MACRO similar_atoms(
    query, site, model := NULL, across := NULL, space := NULL, k := 10
) AS TABLE
WITH asked AS (
    SELECT v.vector, v.orbit FROM vector_rows(question_space(across, space), model, 'atom') AS v
    WHERE v.structure_id = query AND v.site_index = site
),
hit AS (
    SELECT
        v.structure_id, v.site_index, array_cosine_distance(v.vector, asked.vector) AS distance,
        distance + coalesce(v.hub, 0) / 2 AS score
    FROM asked, answering_rows(question_space(across, space), model, across, 'atom') AS v
    WHERE v.site_index = v.orbit
    AND (
        model_name(coalesce(across, model)) != model_name(model)
        OR v.structure_id != query OR v.orbit != asked.orbit
    )
    ORDER BY score, v.structure_id, v.site_index
    LIMIT k
)
SELECT
    row_number() OVER (ORDER BY hit.score, hit.structure_id, hit.site_index) AS rank,
    hit.structure_id, hit.site_index, s.element, s.multiplicity, hit.distance,
    structure.* EXCLUDE (structure_id)
FROM hit
JOIN structure ON structure.structure_id = hit.structure_id
JOIN site AS s ON s.structure_id = hit.structure_id AND s.site_index = hit.site_index
ORDER BY rank;

CREATE OR REPLACE MACRO embedding(query, site := NULL, model := NULL, space := NULL) AS (
    SELECT any_value(vector) FROM (
        SELECT structure_id, NULL AS site_index, vector::FLOAT[] AS vector
        FROM vector_rows(question_space(NULL, space), model, 'structure')
        UNION ALL
        SELECT structure_id, v.site_index, vector::FLOAT[] AS vector
        FROM vector_rows(question_space(NULL, space), model, 'atom') AS v
    ) WHERE structure_id = query AND site_index IS NOT DISTINCT FROM site
);

-- Of what `score` stored: one structure, or the least typical ones.
CREATE OR REPLACE MACRO stored_typicality(model, level) AS TABLE
SELECT * FROM (
    SELECT t.* FROM typicality AS t WHERE level = 'structure'
    UNION ALL BY NAME
    SELECT t.* FROM atom_typicality AS t WHERE level = 'atom'
) AS t
WHERE t.model = model_name(model) AND t.layer = model_layer(model);

CREATE OR REPLACE MACRO typicality(query, model := NULL, level := 'structure') AS TABLE
SELECT t.* FROM stored_typicality(model, level) AS t WHERE t.structure_id = query;

CREATE OR REPLACE MACRO outliers(model := NULL, k := 20, level := 'structure') AS TABLE
SELECT
    row_number() OVER (ORDER BY t.atypicality DESC, t.structure_id, t.site_index) AS rank, t.*,
    structure.* EXCLUDE (structure_id)
FROM stored_typicality(model, level) AS t
JOIN structure ON structure.structure_id = t.structure_id
ORDER BY rank
LIMIT k;
