"""What sources hold: structures, their properties and their rejections, into the catalogue."""

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from platonic_store.storage import quarantine
from platonic_store.storage import tables as t
from platonic_store.storage.bulk import SCHEMAS
from platonic_store.storage.catalog import fetch_arrow, insert_arrow
from platonic_store.storage.ids import new_id
from platonic_store.storage.property_columns import add_structures, new_properties
from platonic_store.storage.sqltext import literals
from platonic_store.storage.writer import Writer

if TYPE_CHECKING:
    from platonic_store.structures import StructureBatch

_BULK = SCHEMAS["crystals"].names[1:]


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
        properties = new_properties(connection, batch.properties, set(kept["id"].to_pylist()))
        rejections = [(r.record, r.id, r.reason) for r in batch.rejected]
        rejections += [
            (i, i, "the same id is in the store with another content") for i in conflicts
        ]
        rejections = quarantine.new_rejections(connection, source, rejections)
        insert_arrow(connection, "seen", kept.select(["id"]).rename_columns(["structure_id"]))
        connection.commit()
    if len(new) or len(members) or len(properties) or rejections:
        crystals = pa.table([new["id"], *(new[name] for name in _BULK)], SCHEMAS["crystals"].names)
        with writer.writing() as connection:
            writer.add_rows("crystals", crystals.cast(SCHEMAS["crystals"]))
            add_structures(connection, new.drop_columns(_BULK), properties)
            insert_arrow(connection, "source_structures", members)
            quarantine.add(connection, source, None, rejections)
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
