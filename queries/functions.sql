-- The store's functions in process. What begins with `_` is answered by Python. `condition` is an
-- SQL condition on the columns of `structure` (and `site`), applied before the nearest are chosen.

-- The k structures most alike to a structure (its id) or to a vector.
CREATE OR REPLACE MACRO similar_structures(
    query, model := NULL, layer := NULL, across := NULL, space := NULL, k := 10, condition := NULL,
    distance := 'cosine'
) AS TABLE
SELECT hit.rank, hit.distance, structure.*
FROM (
    SELECT unnest(
        _similar(query::VARCHAR, NULL, model, layer, across, space, k, condition, distance)
    ) AS hit
)
JOIN structure ON structure.id = hit.id
ORDER BY hit.rank;

-- The k atoms most alike to one atom, each standing for its symmetry-equivalent sites.
CREATE OR REPLACE MACRO similar_atoms(
    query, site, model := NULL, layer := NULL, across := NULL, space := NULL, k := 10,
    condition := NULL
) AS TABLE
SELECT
    hit.rank, hit.distance, hit.site_index, s.element, s.multiplicity, structure.*
FROM (
    SELECT unnest(
        _similar(query::VARCHAR, site, model, layer, across, space, k, condition, 'cosine')
    ) AS hit
)
JOIN structure ON structure.id = hit.id
JOIN site AS s ON s.structure_id = hit.id AND s.site_index = hit.site_index
ORDER BY hit.rank;

-- The k structures nearest to a sum of structures, "mp-1 - mp-2 + mp-3" or "CaTiO3 - Ca + Sr".
CREATE OR REPLACE MACRO analogy(
    expression, model := NULL, layer := NULL, across := NULL, space := NULL, k := 10,
    condition := NULL
) AS TABLE
SELECT hit.rank, hit.distance, structure.*
FROM (
    SELECT unnest(
        _analogy(expression::VARCHAR, model, layer, across, space, k, condition)
    ) AS hit
)
JOIN structure ON structure.id = hit.id
ORDER BY hit.rank;

-- The k nearest of every structure (or, with level := 'atom', of every distinct atom).
CREATE OR REPLACE MACRO neighbours(
    model := NULL, layer := NULL, across := NULL, space := NULL, k := 5, level := 'structure',
    condition := NULL
) AS TABLE
SELECT unnest(_neighbours(model, layer, across, space, k, level, condition), recursive := true);

-- A numeric property by one model's readout, fed with another model's coordinates.
CREATE OR REPLACE MACRO stitch(from_model, to_model, property, space := NULL, seed := 0) AS TABLE
SELECT unnest(_stitch(from_model, to_model, property, space, seed), recursive := true);

-- How unlike what a model has seen here one structure (or, with level := 'atom', its atoms) looks.
-- Typicality is not confidence. All that `score` judged is in the view of the same name.
CREATE OR REPLACE MACRO typicality(
    query, model := NULL, layer := NULL, level := 'structure'
) AS TABLE
SELECT unnest(_typicality(query::VARCHAR, model, layer, level), recursive := true);

-- The k structures (or, with level := 'atom', atoms) that look least typical to a model.
CREATE OR REPLACE MACRO outliers(
    model := NULL, layer := NULL, k := 20, level := 'structure'
) AS TABLE
SELECT unnest(_outliers(model, layer, k, level), recursive := true);

-- How alike two models see the same atoms, a row a measure.
CREATE OR REPLACE MACRO alignment(a, b, space := NULL, atoms := 2000, seed := 0) AS TABLE
SELECT unnest(_alignment(a, b, space, atoms, seed), recursive := true);

-- What it takes to move one model's atoms onto another's, a row an element and one for all.
CREATE OR REPLACE MACRO transport(a, b, space := NULL, atoms := 2000, seed := 0) AS TABLE
SELECT unnest(_transport(a, b, space, atoms, seed), recursive := true);

-- How far two structures are as sets of atoms.
CREATE OR REPLACE MACRO transport_distance(
    a, b, model := NULL, layer := NULL, across := NULL, space := NULL
) AS _transport_distance(a::VARCHAR, b::VARCHAR, model, layer, across, space);

-- Where a model's neighbourhoods differ from all others'; and the pairs that it alone merges.
CREATE OR REPLACE MACRO bias(model := NULL, "by" := NULL, k := 10, seed := 0) AS TABLE
SELECT unnest(_bias(model, "by", k, seed), recursive := true);

CREATE OR REPLACE MACRO merged(model := NULL, k := 20, seed := 0) AS TABLE
SELECT unnest(_merged(model, k, seed), recursive := true);

-- The vector of a structure, or of one of its sites; in a shared space if one is named.
CREATE OR REPLACE MACRO embedding(
    query, site := NULL, model := NULL, layer := NULL, space := NULL
) AS _embedding(query::VARCHAR, site, model, layer, space);
