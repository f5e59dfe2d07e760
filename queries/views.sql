-- The tables that people query. `catalog` is the store's catalogue, attached read-only;
-- `crystals`, `structure_scores` and `atom_scores` are views of its bulk files, as are
-- `structure_map` and `atom_map`: where each model, and the consensus, puts what is there.

-- What was fitted, by name: targets of a space, projections, layouts of the map.
CREATE OR REPLACE VIEW fitted AS
SELECT name, content FROM parameters
UNION ALL
SELECT name, content FROM catalog.main.older_parameters;

-- One row a crystal: what the store knows of it, then every property of its source.
CREATE OR REPLACE VIEW structure AS
SELECT
    id AS structure_id, formula, elements, len(elements) AS nelements, nsites, spacegroup, volume,
    content_hash, added_at,
    * EXCLUDE (
        id, formula, elements, nsites, distinct_sites, spacegroup, volume, content_hash, added_at
    )
FROM catalog.main.structures;

-- One row an atom. x, y, z in Å; `orbit` is the first of its symmetry-equivalent sites and
-- `multiplicity` how many those are.
CREATE OR REPLACE VIEW site AS
SELECT
    structure_id, site_index, atomic_number, element_symbol(atomic_number) AS element,
    x, y, z, orbit, count(*) OVER (PARTITION BY structure_id, orbit) AS multiplicity
FROM (
    SELECT
        structure_id,
        unnest(range(len(numbers)))::INTEGER AS site_index,
        unnest(numbers) AS atomic_number,
        unnest(list_transform(range(len(numbers)), lambda i: positions[3 * i + 1])) AS x,
        unnest(list_transform(range(len(numbers)), lambda i: positions[3 * i + 2])) AS y,
        unnest(list_transform(range(len(numbers)), lambda i: positions[3 * i + 3])) AS z,
        unnest(orbits) AS orbit
    FROM crystals
);

-- One row a model that has embedded something here.
CREATE OR REPLACE VIEW model AS
SELECT
    m.name, m.family, m.kind, m.default_layer,
    (
        SELECT list(DISTINCT v.layer ORDER BY v.layer)
        FROM catalog.main.vector_tables AS v
        WHERE v.model = m.name AND v.space IS NULL
    ) AS layers,
    (
        SELECT count(DISTINCT c.structure_id)
        FROM catalog.main.vector_tables AS v
        JOIN catalog.main.table_appends AS f ON f.table_name = v.name
        JOIN catalog.main.chunk_structures AS c ON c.chunk_id = f.chunk_id
        WHERE v.model = m.name AND v.space IS NULL
    ) AS structures,
    m.checkpoint_sha256, m.card, m.added_at
FROM catalog.main.models AS m;

-- One row for each time that a model ran: what, with which weights, where, how long.
CREATE OR REPLACE VIEW run AS
SELECT r.*, s.uri AS source
FROM catalog.main.runs AS r
LEFT JOIN catalog.main.sources AS s ON s.id = r.source_id;

-- What could not be read or embedded, and why.
CREATE OR REPLACE VIEW quarantine AS
SELECT s.uri AS source, q.record, q.structure_id, q.model, q.reason, q.at
FROM catalog.main.quarantined AS q
LEFT JOIN catalog.main.sources AS s ON s.id = q.source_id;

-- One row a structure and model that was asked for its energy (eV), which counts from the model's own
-- references: of two models compare what is left when composition is accounted for, as `committee`
-- does. `run` says by which weights and versions.
CREATE OR REPLACE VIEW prediction AS
SELECT
    p.structure_id, p.model, p.energy, p.energy / s.nsites AS energy_per_atom, p.run
FROM structure_predictions AS p
JOIN catalog.main.structures AS s ON s.id = p.structure_id;

-- One row an atom and model that was asked for forces: its components (eV/Å, Cartesian, in the
-- structure's own frame) and its size. All sites: of equivalent ones it differs by a rotation.
CREATE OR REPLACE VIEW atom_prediction AS
SELECT
    structure_id, site_index, model, fx, fy, fz,
    sqrt(fx::DOUBLE * fx + fy::DOUBLE * fy + fz::DOUBLE * fz) AS force, run
FROM atom_predictions;

-- One row an anchor atom of an anchor set.
CREATE OR REPLACE VIEW anchor AS
SELECT
    a.anchor_set, a.rank, a.structure_id, a.site_index,
    element_symbol(c.numbers[a.site_index + 1]) AS element, t.formula,
    n.method, n.model, n.layer, n.created_at
FROM catalog.main.anchors AS a
JOIN catalog.main.anchor_sets AS n ON n.id = a.anchor_set
LEFT JOIN crystals AS c ON c.structure_id = a.structure_id
LEFT JOIN catalog.main.structures AS t ON t.id = a.structure_id;

-- The layers of a side: of one layer its index, of a set minus the sum of their powers of two.
CREATE OR REPLACE MACRO layers_of(layer) AS
    if(layer >= 0, [layer], list_filter(range(31)::INTEGER[], lambda i: (-layer >> i) & 1 = 1));

-- One row a shared space (recipe and anchors) and a model projected into it; `side` is how the model
-- and what the space takes of it are written, as in sevennet-0@0+1.
CREATE OR REPLACE VIEW projection AS
SELECT
    p.space, s.recipe, s.anchor_set, p.model, layers_of(p.layer) AS layers,
    p.model || '@' || list_aggregate(layers_of(p.layer), 'string_agg', '+') AS side,
    p.layer, p.created_at
FROM catalog.main.projections AS p
JOIN catalog.main.spaces AS s ON s.id = p.space;

-- One row a reference: what a model finds typical is judged against. `among` is the condition that
-- chose its structures (NULL: all), `calibration` how many of them only set the scale of p.
CREATE OR REPLACE VIEW reference AS
SELECT
    r.id, r.model, r.layer, r.among, r.seed, r.settings,
    count(*) FILTER (m.part = 'typical') AS structures,
    count(*) FILTER (m.part = 'calibration') AS calibration,
    r.created_at
FROM catalog.main.reference_sets AS r
JOIN catalog.main.reference_structures AS m ON m.reference = r.id
GROUP BY ALL;

-- One row a structure and model: how unlike what the model knows it looks. Typicality is not
-- confidence. `site_index`, `element`: its least typical atom; `nearest_…`: the typical atom most
-- like that; `neighbours`: the ids of the typical structures most like it.
CREATE OR REPLACE VIEW typicality AS
SELECT
    c.structure_id, r.model, r.layer, c.atypicality, c.p, c.distance, c.density, c.residual,
    c.site_index, element_symbol(c.atomic_number) AS element,
    c.nearest_id, c.nearest_site, c.nearest_distance, c.neighbours, c.reference
FROM structure_scores AS c
JOIN catalog.main.reference_sets AS r ON r.id = c.reference;

-- One row an atom (one for each set of symmetry-equivalent sites) and model.
CREATE OR REPLACE VIEW atom_typicality AS
SELECT
    c.structure_id, c.site_index, element_symbol(c.atomic_number) AS element,
    r.model, r.layer, c.atypicality, c.p, c.distance, c.density, c.residual,
    c.nearest_id, c.nearest_site, c.nearest_distance, c.reference
FROM atom_scores AS c
JOIN catalog.main.reference_sets AS r ON r.id = c.reference;

-- The ids of each model's newest reference, controls left out.
CREATE OR REPLACE MACRO newest_references() AS (
    SELECT list(reference) FROM (
        SELECT max_by(r.id, r.created_at) AS reference
        FROM catalog.main.reference_sets AS r
        JOIN catalog.main.models AS m ON m.name = r.model AND m.kind = 'trained'
        GROUP BY r.model
    )
);

-- One row an atom and pair of models: the share of its ten nearest typical atoms in common.
-- `chosen`: ids of references, one a model (or a layer of one).
CREATE OR REPLACE MACRO atom_agreement_by(chosen) AS TABLE
WITH atom AS (
    SELECT
        c.structure_id, c.site_index, c.atomic_number, c.neighbours,
        r.model, row(r.model, r.layer) AS side
    FROM atom_scores AS c
    JOIN catalog.main.reference_sets AS r ON r.id = c.reference
    WHERE c.neighbours IS NOT NULL AND r.id IN (SELECT unnest(chosen))
)
SELECT
    a.structure_id, a.site_index, element_symbol(a.atomic_number) AS element,
    a.model, b.model AS other,
    len(list_intersect(a.neighbours, b.neighbours))
    / greatest(len(a.neighbours), len(b.neighbours)) AS agreement
FROM atom AS a
JOIN atom AS b
    ON b.structure_id = a.structure_id AND b.site_index = a.site_index AND a.side < b.side;

CREATE OR REPLACE VIEW atom_agreement AS
FROM atom_agreement_by(newest_references());

-- One row a structure that at least two models have scored. `p` is their consensus: how often the
-- calibration's structures look as atypical to all of the models together. `disagreement`: how
-- little the models agree on which typical atoms are most like its atom `site_index`, where they
-- agree least; `p_disagreement`: how often the calibration's are disagreed on as much. Both are NULL
-- where no structure calibrates all of the models. `chosen`: as for `atom_agreement_by`.
CREATE OR REPLACE MACRO disagreement_by(chosen) AS TABLE
WITH consensus AS (
    SELECT
        c.structure_id, list(r.model ORDER BY r.model, r.layer) AS models,
        avg(-ln(c.p) ORDER BY r.model, r.layer) AS surprise,
        bool_and(coalesce(m.part = 'calibration', false)) AS calibrates
    FROM structure_scores AS c
    JOIN catalog.main.reference_sets AS r ON r.id = c.reference
    LEFT JOIN catalog.main.reference_structures AS m
        ON m.reference = c.reference AND m.structure_id = c.structure_id
    WHERE r.id IN (SELECT unnest(chosen))
    GROUP BY c.structure_id HAVING count(*) > 1
),
site AS (
    SELECT structure_id, site_index, 1 - avg(agreement) AS disagreement
    FROM atom_agreement_by(chosen) GROUP BY ALL
),
worst AS (
    SELECT
        structure_id, max(disagreement) AS disagreement,
        min_by(site_index, -disagreement) AS site_index
    FROM site GROUP BY structure_id
),
whole AS (
    SELECT c.*, w.disagreement, w.site_index
    FROM consensus AS c LEFT JOIN worst AS w USING (structure_id)
)
SELECT
    structure_id, models,
    (
        count(*) FILTER (calibrates) OVER (PARTITION BY models ORDER BY surprise DESC)
        + (NOT calibrates)::INTEGER
    ) / (
        nullif(count(*) FILTER (calibrates) OVER (PARTITION BY models), 0)
        + (NOT calibrates)::INTEGER
    ) AS p,
    disagreement,
    (
        count(*) FILTER (calibrates) OVER (PARTITION BY models ORDER BY disagreement DESC)
        + (NOT calibrates)::INTEGER
    ) / (
        nullif(count(*) FILTER (calibrates) OVER (PARTITION BY models), 0)
        + (NOT calibrates)::INTEGER
    ) AS p_disagreement,
    site_index
FROM whole;

CREATE OR REPLACE VIEW disagreement AS
FROM disagreement_by(newest_references());

-- Two models a row that are kin, each way: of one family with a training set in common, or of one
-- lineage, when their cards say that one began as the other or was taught by it, or both by a third.
CREATE OR REPLACE VIEW kin AS
WITH RECURSIVE card AS (
    SELECT
        name, family, coalesce((card->'training_sets')::VARCHAR[], []) AS sets,
        coalesce(card->>'$.lineage[*].model', []) AS parents
    FROM catalog.main.models
    WHERE kind = 'trained'
),
line AS (
    SELECT name, name AS ancestor FROM card
    UNION
    SELECT l.name, unnest(c.parents) FROM line AS l JOIN card AS c ON c.name = l.ancestor
)
SELECT a.name AS model, b.name AS kin
FROM card AS a, card AS b
WHERE a.name <> b.name AND (
    a.family = b.family AND list_has_any(a.sets, b.sets)
    OR EXISTS (
        FROM line AS one JOIN line AS other USING (ancestor)
        WHERE one.name = a.name AND other.name = b.name
    )
);

-- The trained models with forces here, of kin the one that came first: kin do not count as
-- agreement.
CREATE OR REPLACE MACRO committee_models() AS (
    WITH judge AS (
        SELECT name, row(added_at, name) AS place FROM catalog.main.models
        WHERE kind = 'trained'
        AND name IN (SELECT model FROM atom_predictions WHERE site_index = 0)
    )
    SELECT list(name ORDER BY place) FROM judge AS j
    WHERE NOT EXISTS (
        FROM judge AS k JOIN kin ON kin.model = k.name AND kin.kin = j.name
        WHERE k.place < j.place
    )
);

-- One row an atom of which all the models of a list have forces. `force` (eV/Å) is the size of
-- their mean, `spread` (eV/Å) how far they are from it: the root of the sum of the components'
-- sample variances. `apart`: the model farthest from it, NULL for two models. Models that share
-- data share errors, which no spread shows.
CREATE OR REPLACE MACRO atom_committee_by(chosen) AS TABLE
WITH one AS (
    SELECT structure_id, site_index, model, fx::DOUBLE AS fx, fy::DOUBLE AS fy, fz::DOUBLE AS fz
    FROM atom_predictions WHERE list_contains(chosen, model)
),
mean AS (
    SELECT
        structure_id, site_index,
        avg(fx ORDER BY model) AS fx, avg(fy ORDER BY model) AS fy, avg(fz ORDER BY model) AS fz
    FROM one GROUP BY ALL HAVING count(*) = len(list_distinct(chosen)) AND count(*) > 1
),
distance AS (
    SELECT
        structure_id, site_index, m.fx, m.fy, m.fz, model,
        (o.fx - m.fx) ** 2 + (o.fy - m.fy) ** 2 + (o.fz - m.fz) ** 2 AS square
    FROM one AS o JOIN mean AS m USING (structure_id, site_index)
)
SELECT
    structure_id, site_index, sqrt(sum(square ORDER BY model) / (count(*) - 1)) AS spread,
    sqrt(fx ** 2 + fy ** 2 + fz ** 2) AS force,
    if(count(*) > 2, min_by(model, (-square, model)), NULL) AS apart,
    fx, fy, fz
FROM distance GROUP BY structure_id, site_index, fx, fy, fz;

-- One row a structure: means over its atoms, and the atom on whose force the models differ most.
-- `p`: the share of the structures here whose spread is at least as large.
CREATE OR REPLACE MACRO committee_by(chosen) AS TABLE
WITH whole AS (
    SELECT
        structure_id,
        avg(spread ORDER BY site_index) AS spread, avg(force ORDER BY site_index) AS force,
        min_by(site_index, (-spread, site_index)) AS site_index, max(spread) AS site_spread
    FROM atom_committee_by(chosen) GROUP BY structure_id
)
SELECT
    structure_id, spread, force,
    (count(*) OVER (ORDER BY spread DESC)) / (count(*) OVER ()) AS p,
    site_index, site_spread, chosen AS models
FROM whole;

CREATE OR REPLACE VIEW atom_committee AS
FROM atom_committee_by(committee_models());

CREATE OR REPLACE VIEW committee AS
FROM committee_by(committee_models());
