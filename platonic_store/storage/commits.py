"""One truth over two stores.

No transaction spans DuckDB and Lance. The order makes one: what is about to be written goes into
the catalogue as pending, the rows go into Lance and onto the disk, and one catalogue transaction
marks them committed and names the Lance versions that readers may see, who do once it is published.
Whatever stops in between is settled by `recovery`, with which every writer begins: what Lance has
whole is rolled forward, the rest is dropped.
"""

import logging
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pyarrow as pa
import sqlalchemy as sa

from platonic_store.storage import tables as t
from platonic_store.storage.catalog import Catalog, insert_arrow, next_id
from platonic_store.storage.interrupts import uninterrupted
from platonic_store.storage.layout import Level, schema, table_name
from platonic_store.storage.vectors import Vectors

_log = logging.getLogger(__name__)


class TableAppend(NamedTuple):
    """Rows for one vector table: any of the table's columns but `chunk_id`, which is added."""

    table: str
    rows: pa.Table


@uninterrupted()
def ensure_vector_table(
    catalog: Catalog,
    vectors: Vectors,
    model: str,
    layer: int,
    level: Level,
    dim: int,
    space: str | None = None,
) -> str:
    """The name of the vector table for (space, model, layer, level), made if there is none."""
    name = table_name(model, layer, level, space)
    with catalog.reading() as connection:
        known = connection.scalar(sa.select(t.vector_tables.c.dim).filter_by(name=name))
    if known is None:
        version = vectors.create(name, level, dim)
        with catalog.writing() as connection:
            connection.execute(
                sa.insert(t.vector_tables).values(
                    name=name,
                    space=space,
                    model=model,
                    layer=layer,
                    level=level,
                    dim=dim,
                    version=version,
                )
            )
    return name


@uninterrupted()
def commit_chunk(
    catalog: Catalog,
    vectors: Vectors,
    run_id: int,
    structure_ids: list[str],
    appends: list[TableAppend],
    record: Callable[[sa.Connection], None] = lambda _: None,
) -> int:
    """Commit and publish the embeddings of some structures in several tables, all or none.

    record: writes what else belongs to the chunk into its last transaction.

    Returns the chunk's id, which every one of its rows carries in Lance.
    """
    with catalog.writing() as connection:
        chunk_id = next_id(connection, t.chunks)
        connection.execute(sa.insert(t.chunks).values(id=chunk_id, run_id=run_id))
        ids = pa.array(structure_ids, pa.string())
        chunk = pa.array([chunk_id] * len(ids), pa.int64())
        insert_arrow(
            connection, "chunk_structures", pa.table({"chunk_id": chunk, "structure_id": ids})
        )
        _write_intent(connection, [(one.table, chunk_id, one.rows.num_rows) for one in appends])
    versions = {one.table: vectors.append(one.table, _tagged(one, chunk_id)) for one in appends}
    commit_versions(catalog, versions, record)
    catalog.publish()
    _log.info("committed chunk %d: %d structures of run %d", chunk_id, len(structure_ids), run_id)
    return chunk_id


@uninterrupted()
def commit_projection(
    catalog: Catalog,
    vectors: Vectors,
    rows: dict[str, dict[int, int]],
    streams: dict[str, pa.RecordBatchReader],
) -> None:
    """Commit and publish rows of known chunks in several tables, all or none.

    rows: {table: {chunk: rows}}; streams: {table: its rows, with their chunk_id}, consumed in this
    order.
    """
    with catalog.writing() as connection:
        _write_intent(
            connection,
            [(name, chunk, n) for name, chunks in rows.items() for chunk, n in chunks.items()],
        )
    commit_versions(
        catalog, {name: vectors.append(name, stream) for name, stream in streams.items()}
    )
    catalog.publish()
    _log.info("committed coordinates: %s", ", ".join(rows))


def _write_intent(connection: sa.Connection, rows: Iterable[tuple[str, int, int]]) -> None:
    connection.execute(
        sa.insert(t.table_appends),
        [
            {"table_name": table, "chunk_id": chunk, "rows": count, "committed": False}
            for table, chunk, count in rows
        ],
    )


def _tagged(append: TableAppend, chunk_id: int) -> pa.Table:
    chunk = pa.array([chunk_id] * append.rows.num_rows, pa.int64())
    rows = append.rows.append_column(pa.field("chunk_id", pa.int64()), chunk)
    level: Level = "atom" if "site_index" in rows.column_names else "structure"
    target = schema(level, rows["vector"].type.list_size)
    return rows.select(target.names).cast(target)


def commit_versions(
    catalog: Catalog,
    versions: dict[str, int],
    record: Callable[[sa.Connection], None] = lambda _: None,
) -> None:
    """Commit these Lance versions, and all that was pending in their tables.

    record: what else is written in the same transaction.
    """
    pending = t.table_appends.c
    with catalog.writing() as connection:
        for name, version in versions.items():
            connection.execute(
                sa.update(t.table_appends)
                .where(pending.table_name == name, ~pending.committed)
                .values(committed=True)
            )
            set_version(connection, name, version)
        record(connection)


def set_version(connection: sa.Connection, name: str, version: int) -> None:
    """Name the version of a vector table that readers open."""
    connection.execute(
        sa.update(t.vector_tables).where(t.vector_tables.c.name == name).values(version=version)
    )


def delete_empty_chunks(connection: sa.Connection) -> None:
    """Forget the chunks of which no table has rows, nor will have."""
    used = sa.select(t.table_appends.c.chunk_id)
    connection.execute(
        sa.delete(t.chunk_structures).where(t.chunk_structures.c.chunk_id.not_in(used))
    )
    connection.execute(sa.delete(t.chunks).where(t.chunks.c.id.not_in(used)))


def maintain(catalog: Catalog, vectors: Vectors, names: Iterable[str] | None = None) -> None:
    """Compact tables (all, if none is named), bring their indexes up to date, and publish."""
    with catalog.reading() as connection:
        rows = connection.execute(sa.select(t.vector_tables.c.name, t.vector_tables.c.version))
        versions: dict[str, int] = {row.name: row.version for row in rows}
    for name in versions if names is None else names:
        version = vectors.maintain(name)
        if version != versions[name]:
            commit_versions(catalog, {name: version})
            _log.debug("compacted %s, now at version %d", name, version)
        vectors.forget_old_versions(name)
    catalog.publish()
