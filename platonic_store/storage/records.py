"""Structures, their properties and their rejections, written to and read from the catalogue."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from ase.data import atomic_numbers, chemical_symbols

from platonic_store.storage import tables as t
from platonic_store.storage.bulk import SCHEMAS
from platonic_store.storage.catalog import fetch_arrow, insert_arrow
from platonic_store.storage.ids import new_id
from platonic_store.storage.sqltext import literals, quote
from platonic_store.storage.writer import Writer

if TYPE_CHECKING:
    from platonic_store.structures import StructureBatch

_BULK = SCHEMAS["crystals"].names[1:]
# Wider types hold all values of narrower ones; anything else meets in VARCHAR.
_WIDER = {("BIGINT", "DOUBLE"), ("BOOLEAN", "BIGINT"), ("BOOLEAN", "DOUBLE")}
_DUCKDB_TYPE = {
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.string(): "VARCHAR",
}
# Names that the views give to what the store itself knows of a structure or a site.
_OWN_NAMES = {
    *(column.name for column in t.structures.columns),
    *SCHEMAS["crystals"].names,
    *("site_index", "atomic_number", "element", "x", "y", "z"),
    *("orbit", "multiplicity", "nelements", "rank", "distance"),
}


class Added(NamedTuple):
    """What became of one batch of a source. structures: its new and its known ones."""

    structures: pa.RecordBatch
    new: int
    known: int
    rejected: int
    conflicts: list[str]


def begin_source(writer: Writer, uri: str) -> int:
    """The id of the source `uri`, which is read anew; `end_source` ends that."""
    with writer.reading() as connection:
        id_ = connection.scalar(sa.select(t.sources.c.id).filter_by(uri=uri))
        connection.exec_driver_sql("CREATE OR REPLACE TEMP TABLE seen (structure_id VARCHAR)")
        connection.commit()
    if id_ is None:
        id_ = new_id()
        with writer.writing() as connection:
            connection.execute(sa.insert(t.sources).values(id=id_, uri=uri))
    return id_


def end_source(writer: Writer, source: int) -> None:
    """Forget the members of a source that it did not hold when it was read now."""
    gone = "source_id = :source AND structure_id NOT IN (SELECT structure_id FROM seen)"
    with writer.reading() as connection:
        is_less = sa.text(f"SELECT EXISTS(FROM source_structures WHERE {gone})")
        if not connection.scalar(is_less, {"source": source}):
            return
    with writer.writing() as connection:
        connection.execute(
            sa.text(f"DELETE FROM source_structures WHERE {gone}"), {"source": source}
        )


def add_batch(writer: Writer, source: int, batch: "StructureBatch") -> Added:
    """Add structures with their properties, and rejections, in one transaction.

    The same id with the same content is a no-op; with another content it is kept out and named.
    """
    structures, conflicts = _without_repeats(batch.structures)
    with writer.reading() as connection:
        stored = _content_hashes(connection, structures["id"])
        ids, hashes = structures["id"].to_pylist(), structures["content_hash"].to_pylist()
        conflicts += [i for i, h in zip(ids, hashes, strict=True) if stored.get(i, h) != h]
        is_kept = [stored.get(i, h) == h for i, h in zip(ids, hashes, strict=True)]
        kept = structures.filter(pa.array(is_kept, pa.bool_()))
        new = kept.filter(pa.array([i not in stored for i in kept["id"].to_pylist()], pa.bool_()))
        members = _new_members(connection, source, kept["id"])
        properties = _new_properties(connection, batch.properties, set(kept["id"].to_pylist()))
        rejections = [(r.record, r.id, r.reason) for r in batch.rejected]
        rejections += [
            (i, i, "the same id is in the store with another content") for i in conflicts
        ]
        rejections = _new_rejections(connection, source, rejections)
        insert_arrow(connection, "seen", kept.select(["id"]).rename_columns(["structure_id"]))
        connection.commit()
    if len(new) or len(members) or len(properties) or rejections:
        crystals = pa.table([new["id"], *(new[name] for name in _BULK)], SCHEMAS["crystals"].names)
        with writer.writing() as connection:
            writer.add_rows("crystals", crystals.cast(SCHEMAS["crystals"]))
            insert_arrow(connection, "structures", new.drop_columns(_BULK))
            insert_arrow(connection, "source_structures", members)
            _add_properties(connection, properties)
            quarantine(connection, source, None, rejections)
    known = len(kept) - len(new)
    return Added(kept, len(new), known, len(batch.rejected), conflicts)


def add_members(writer: Writer, source: int, structure_ids: list[str]) -> None:
    """Note that a source holds some structures of the store."""
    with writer.writing() as connection:
        ids = pa.array(structure_ids, pa.string())
        insert_arrow(connection, "source_structures", _new_members(connection, source, ids))


def _content_hashes(connection: sa.Connection, ids: pa.Array) -> dict[str, str]:
    """By id, of the structures that are in the store."""
    sql = "SELECT id, content_hash FROM structures WHERE id IN (SELECT unnest(?))"
    found = fetch_arrow(connection, sql, [ids.to_pylist()])
    return dict(found.to_pandas().itertuples(index=False))


def _new_members(connection: sa.Connection, source: int, ids: pa.Array) -> pa.Table:
    """The rows of `source_structures` that are not there."""
    known = fetch_arrow(
        connection,
        "SELECT structure_id FROM source_structures "
        "WHERE source_id = ? AND structure_id IN (SELECT unnest(?))",
        [source, ids.to_pylist()],
    )
    new = ids.filter(pc.invert(pc.is_in(ids, known["structure_id"].combine_chunks())))
    return pa.table({"source_id": pa.array([source] * len(new), pa.int64()), "structure_id": new})


def _new_rejections(
    connection: sa.Connection, source: int, rejections: list[tuple[str, str | None, str]]
) -> list[tuple[str, str | None, str]]:
    """Those that the quarantine does not say already."""
    held = t.quarantined.c
    said = sa.select(held.record, held.structure_id, held.reason).where(
        held.source_id == source, held.model.is_(None)
    )
    known = {tuple(row) for row in connection.execute(said)} if rejections else set()
    return [one for one in rejections if one not in known]


def _without_repeats(structures: pa.RecordBatch) -> tuple[pa.RecordBatch, list[str]]:
    """The first of each id in a batch, and the ids that came again with another content."""
    first: dict[str, str] = {}
    keep, conflicts = [], []
    for row, (id_, hash_) in enumerate(
        zip(structures["id"].to_pylist(), structures["content_hash"].to_pylist(), strict=True)
    ):
        if id_ not in first:
            first[id_] = hash_
            keep.append(row)
        elif first[id_] != hash_:
            conflicts.append(id_)
    return structures.take(pa.array(keep, pa.int64())), conflicts


def _new_properties(connection: sa.Connection, rows: pa.RecordBatch, ids: set[str]) -> pa.Table:
    """Of some structures the rows of `properties` with a value that is not there."""
    table = pa.Table.from_batches([rows])
    seen: set[str] = set()
    mask = []
    for id_ in table["id"].to_pylist():
        mask.append(id_ in ids and id_ not in seen)
        seen.add(id_)
    table = table.filter(pa.array(mask, pa.bool_()))
    columns = {"structure_id": table["id"]}
    for name in table.column_names:
        if name != "id" and not pa.types.is_null(table[name].type):
            columns[_property_name(name, columns)] = table[name]
    table = pa.table(columns)
    stored = {name.lower() for name, *_ in connection.execute(sa.text("DESCRIBE properties"))}
    names = [name for name in table.column_names if name.lower() in stored]
    if len(names) < len(columns):
        return table
    gained = (f"i.{quote(name)} IS NOT NULL AND p.{quote(name)} IS NULL" for name in names)
    raw: Any = connection.connection.driver_connection
    raw.register("incoming", table)
    found = fetch_arrow(
        connection,
        "SELECT i.* FROM incoming AS i LEFT JOIN properties AS p USING (structure_id) "
        f"WHERE {' OR '.join(gained)}",
    )
    raw.unregister("incoming")
    return found


def _add_properties(connection: sa.Connection, table: pa.Table) -> None:
    """Upsert typed properties; a value that is already there stays."""
    if not len(table):
        return
    _widen_table(connection, dict(zip(table.column_names, table.columns, strict=True)))
    updates = ", ".join(
        f"{quote(name)} = COALESCE({quote(name)}, excluded.{quote(name)})"
        for name in table.column_names[1:]
    )
    action = f"DO UPDATE SET {updates}" if updates else "DO NOTHING"
    insert_arrow(connection, "properties", table, conflict=f"ON CONFLICT (structure_id) {action}")


def _property_name(name: str, taken: Iterable[str]) -> str:
    """DuckDB's names ignore case, and the store's own columns keep theirs."""
    name = f"source_{name}" if name.lower() in _OWN_NAMES else name
    spellings = {other.lower() for other in taken}
    while name.lower() in spellings:
        name += "_"
    return name


def _widen_table(connection: sa.Connection, columns: dict[str, pa.ChunkedArray]) -> None:
    """Give `properties` the columns that are new, and the wider type where two sources differ."""
    described = connection.execute(sa.text("DESCRIBE properties")).all()
    present = {name.lower(): (name, kind) for name, kind, *_ in described}
    for name, values in columns.items():
        kind = _DUCKDB_TYPE.get(values.type, "VARCHAR")
        if name.lower() not in present:
            connection.execute(sa.text(f"ALTER TABLE properties ADD COLUMN {quote(name)} {kind}"))
            continue
        stored_name, stored = present[name.lower()]
        if stored != kind and (kind, stored) not in _WIDER:
            wider = kind if (stored, kind) in _WIDER else "VARCHAR"
            if wider != stored:
                connection.execute(
                    sa.text(f"ALTER TABLE properties ALTER {quote(stored_name)} TYPE {wider}")
                )


def quarantine(
    connection: sa.Connection,
    source: int | None,
    model: str | None,
    rejections: Sequence[tuple[str, str | None, str]],
) -> None:
    """Record (record, structure id, reason) rows, replacing what was said of them before."""
    if not rejections:
        return
    rows = [
        {"source_id": source, "record": record, "structure_id": id_, "model": model, "reason": why}
        for record, id_, why in rejections
    ]
    # A record is its source's; what a model refuses is the structure, wherever it came from.
    same = t.quarantined.c.source_id == source if model is None else t.quarantined.c.model == model
    connection.execute(
        sa.delete(t.quarantined).where(
            same,
            t.quarantined.c.model.is_not_distinct_from(model),
            t.quarantined.c.record.in_([row["record"] for row in rows]),
        )
    )
    connection.execute(sa.insert(t.quarantined), rows)


def clear_quarantine(connection: sa.Connection, model: str, ids: set[str]) -> None:
    """Strike from the quarantine what a model has embedded after all."""
    held = t.quarantined.c.model == model
    if ids and connection.scalar(sa.select(sa.func.count()).where(held)):
        connection.execute(
            sa.delete(t.quarantined).where(held, t.quarantined.c.structure_id.in_(ids))
        )


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
_UNSUPPORTED = """
SELECT s.id, list_filter(s.elements, lambda e: NOT list_contains(?::VARCHAR[], e)) AS unknown
FROM structures AS s
WHERE (? IS NULL OR s.id IN (SELECT structure_id FROM source_structures WHERE source_id = ?))
AND len(unknown) > 0
AND s.id NOT IN (SELECT q.structure_id FROM quarantined AS q WHERE q.model = ?)
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


def quarantine_unsupported_elements(
    writer: Writer, source: int | None, model: str, elements: list[int]
) -> int:
    """Quarantine a source's structures with elements that the model does not know.

    elements: the atomic numbers that it knows. Returns how many structures are new there.
    """
    with writer.reading() as connection:
        parameters = [_symbols(elements), source, source, model]
        unsupported = fetch_arrow(connection, _UNSUPPORTED, parameters).to_pylist()
    rejections = []
    for row in unsupported:
        names = ", ".join(sorted(row["unknown"], key=atomic_numbers.__getitem__))
        rejections.append((row["id"], row["id"], f"{model} does not know element {names}"))
    if rejections:
        with writer.writing() as connection:
            quarantine(connection, source, model, rejections)
    return len(rejections)


def gaps(writer: Writer, source: int | None, wanted: Wanted) -> list[Gap]:
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
    structures, symbols = added.structures, {*_symbols(wanted.elements)}
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
    for rows in writer.rows_of("crystals", ids.combine_chunks()):
        yield from rows.rename_columns(["id", *_BULK]).combine_chunks().to_batches()


def sites(writer: Writer, structure_ids: list[str]) -> pa.Table:
    """The `atomic_number` and the `orbit` of every site of some structures, in their order."""
    with writer.reading() as connection:
        rows = fetch_arrow(
            connection,
            # Literals as well as the join: they say which part of the files to read.
            f"""
            SELECT c.numbers, c.orbits
            FROM (SELECT unnest(?) AS structure_id, generate_subscripts(?, 1) AS place) AS wanted
            JOIN crystals AS c USING (structure_id)
            WHERE c.structure_id IN ({literals(structure_ids) or "NULL"})
            ORDER BY wanted.place
            """,
            [structure_ids, structure_ids],
        )
    return pa.table(
        {
            "atomic_number": pc.list_flatten(rows["numbers"]),
            "orbit": pc.list_flatten(rows["orbits"]),
        }
    )


def _parameters(source: int | None, wanted: Wanted) -> list[object]:
    model, layers, outputs, elements = wanted
    return [model, layers, model, model, outputs, source, source, _symbols(elements)]


def _symbols(elements: list[int]) -> list[str]:
    return [chemical_symbols[number] for number in elements]
