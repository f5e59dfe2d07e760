"""What a model has yet to make of the structures of a store, found in the catalogue."""

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from platonic_store.storage.bulk import SCHEMAS
from platonic_store.storage.catalog import fetch_arrow
from platonic_store.storage.quarantine import symbols_of
from platonic_store.storage.records import Added
from platonic_store.storage.writer import Writer

_PRESENT = """
WITH embedded AS (
    SELECT c.structure_id, list_sort(list(DISTINCT v.layer)) AS layers
    FROM chunk_structures AS c
    JOIN table_appends AS a ON a.chunk_id = c.chunk_id
    JOIN vector_tables AS v
        ON v.name = a.table_name AND v.space IS NULL AND v.level = 'structure'
    WHERE v.model = ? AND list_contains(?, v.layer)
    GROUP BY c.structure_id
),
predicted AS (
    SELECT structure_id, list(output ORDER BY output) AS outputs
    FROM (
        SELECT structure_id, 'energy' AS output FROM structure_predictions WHERE model = ?
        UNION ALL
        SELECT structure_id, 'forces' FROM atom_predictions WHERE model = ? AND site_index = 0
    )
    WHERE list_contains(?::VARCHAR[], output)
    GROUP BY structure_id
),
present AS (
    SELECT
        s.id, s.nsites,
        coalesce(e.layers, []::INTEGER[]) AS layers, coalesce(p.outputs, []::VARCHAR[]) AS outputs
    FROM structures AS s
    LEFT JOIN embedded AS e ON e.structure_id = s.id
    LEFT JOIN predicted AS p ON p.structure_id = s.id
    WHERE (? IS NULL OR s.id IN (SELECT structure_id FROM source_structures WHERE source_id = ?))
    AND list_has_all(?::VARCHAR[], s.elements)
)
"""
_TOUCHED = """
WITH asked AS (SELECT unnest(?) AS id)
SELECT c.structure_id AS id
FROM chunk_structures AS c
JOIN table_appends AS a ON a.chunk_id = c.chunk_id
JOIN vector_tables AS v ON v.name = a.table_name AND v.space IS NULL AND v.level = 'structure'
WHERE v.model = ? AND list_contains(?, v.layer) AND c.structure_id IN (FROM asked)
UNION
SELECT structure_id FROM structure_predictions
WHERE model = ? AND list_contains(?::VARCHAR[], 'energy') AND structure_id IN (FROM asked)
UNION
SELECT structure_id FROM atom_predictions
WHERE model = ? AND list_contains(?::VARCHAR[], 'forces') AND structure_id IN (FROM asked)
"""


class Wanted(NamedTuple):
    """What a model is to make of structures. outputs: some of "energy" and "forces", sorted.

    elements: the atomic numbers that it knows; structures with others lack nothing.
    """

    model: str
    layers: list[int]
    outputs: list[str]
    elements: list[int]


class Gap(NamedTuple):
    """Structures of which just these layers and outputs are there, of those that are wanted."""

    layers: list[int]
    outputs: list[str]
    structures: int
    sites: int


def find_gaps(writer: Writer, source: int | None, wanted: Wanted) -> list[Gap]:
    """What a source (all sources if None) lacks, grouped by what it has."""
    with writer.reading() as connection:
        rows = fetch_arrow(
            connection,
            _PRESENT + "SELECT layers, outputs, count(*) AS structures, "
            "sum(nsites)::BIGINT AS sites FROM present GROUP BY 1, 2 ORDER BY 1, 2",
            _parameters(source, wanted),
        ).to_pylist()
    return [
        Gap(**row)
        for row in rows
        if row["layers"] != wanted.layers or row["outputs"] != wanted.outputs
    ]


def untouched(writer: Writer, wanted: Wanted, added: Added) -> pa.RecordBatch:
    """The structures of a batch of which nothing is there that is wanted, and all of it lacks."""
    structures, symbols = added.structures, {*symbols_of(wanted.elements)}
    present: set[str] = set()
    if added.known:
        with writer.reading() as connection:
            model, layers, outputs, _ = wanted
            ids = structures["id"].to_pylist()
            parameters = [ids, model, layers, model, outputs, model, outputs]
            present = {*fetch_arrow(connection, _TOUCHED, parameters)["id"].to_pylist()}
    rows = zip(structures["id"].to_pylist(), structures["elements"].to_pylist(), strict=True)
    mask = [id_ not in present and symbols.issuperset(elements) for id_, elements in rows]
    return structures.filter(pa.array(mask, pa.bool_()))


def structures_of_gap(
    writer: Writer, source: int | None, wanted: Wanted, gap: Gap
) -> Iterator[pa.RecordBatch]:
    """Stream the structures of a gap, by id: id, numbers, positions (Å), cell (Å), pbc, orbits.

    Commits may come between batches.
    """
    with writer.reading() as connection:
        ids = fetch_arrow(
            connection,
            _PRESENT + "SELECT id FROM present WHERE layers = ?::INTEGER[] "
            "AND outputs = ?::VARCHAR[] ORDER BY id",
            [*_parameters(source, wanted), gap.layers, gap.outputs],
        )["id"]
    names = ["id", *SCHEMAS["crystals"].names[1:]]
    for rows in writer.rows_of("crystals", ids.combine_chunks()):
        yield from rows.rename_columns(names).combine_chunks().to_batches()


def _parameters(source: int | None, wanted: Wanted) -> list[object]:
    model, layers, outputs, elements = wanted
    return [model, layers, model, model, outputs, source, source, symbols_of(elements)]
