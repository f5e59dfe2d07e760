"""What a job commits: the embeddings of some structures in several tables, all or none."""

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from platonic_store.arrow import vector_matrix
from platonic_store.errors import InvalidQuery
from platonic_store.storage import disk, lance_tables
from platonic_store.storage import tables as t
from platonic_store.storage.catalog import insert_arrow
from platonic_store.storage.ids import new_id
from platonic_store.storage.interrupts import uninterrupted
from platonic_store.storage.layout import Level, StoreDtype, schema, table_name
from platonic_store.storage.location import Location
from platonic_store.storage.manifest import StoredFile
from platonic_store.storage.writer import Writer

if TYPE_CHECKING:
    from lance import FragmentMetadata

LARGEST_HALF = 65_504.0
_log = logging.getLogger(__name__)


class TableAppend(NamedTuple):
    """Rows for one vector table: any of the table's columns but `chunk_id`, which is added."""

    table: str
    rows: pa.Table


class Written(NamedTuple):
    """Rows of one vector table, in fragments that no manifest names yet.

    files: the fragments' data files, where the writer need not read them back.
    """

    table: str
    rows: int
    fragments: "list[FragmentMetadata]"
    files: list[StoredFile]


class WrittenChunk(NamedTuple):
    """A chunk that is written and not committed. id: every one of its rows carries it."""

    id: int
    tables: list[Written]


@uninterrupted()
def ensure_vector_table(
    writer: Writer,
    model: str,
    layer: int,
    level: Level,
    dim: int,
    space: str | None = None,
    *,
    hubs: bool = False,
    half: bool = False,
) -> str:
    """The name of the vector table for (space, model, layer, level), made if there is none.

    half: where it is made, in half precision; see `layout.schema`.
    """
    name = table_name(model, layer, level, space)
    with writer.reading() as connection:
        known = connection.scalar(sa.select(t.vector_tables.c.dim).filter_by(name=name))
    if known is None:
        with writer.writing() as connection:
            writer.create_table(name, schema(level, dim, hubs=hubs, half=half))
            connection.execute(
                sa.insert(t.vector_tables).values(
                    name=name, space=space, model=model, layer=layer, level=level, dim=dim
                )
            )
    return name


def require_dtype(writer: Writer, name: str, wanted: StoreDtype) -> None:
    """Raises: InvalidQuery where a table's vectors have another precision, which never changes."""
    is_half = writer.schema_of(name).field("vector").type.value_type == pa.float16()
    stored: StoreDtype = "float16" if is_half else "float32"
    if stored != wanted:
        raise InvalidQuery(
            f"the vectors of {name} are stored in {stored}, not {wanted}",
            "leave the precision out, or ingest into a new store",
        )


def write_chunk(
    location: Location, appends: list[TableAppend], *, described: bool = False
) -> WrittenChunk:
    """Write rows beside their tables, which need no writer; they belong there once committed.

    described: read the files back and give their checksums, as the writer otherwise does.

    Raises: StoreNotWritable, StoreUnreachable.
    """
    chunk_id = new_id()
    with disk.refusals(location.uri), location.explained():
        tables = [_write(location, chunk_id, one, described) for one in appends]
    return WrittenChunk(chunk_id, tables)


def _write(location: Location, chunk_id: int, append: TableAppend, described: bool) -> Written:
    uri = location.lance_uri(append.table)
    target = lance_tables.open_table(uri, None, location.lance_options).schema
    rows = _tagged(append, chunk_id, target)
    fragments = lance_tables.write_fragments(uri, rows, location.lance_options)
    files = lance_tables.describe_data(location, append.table, fragments) if described else []
    return Written(append.table, rows.num_rows, fragments, files)


def commit_chunk(
    writer: Writer,
    run_id: int,
    structure_ids: list[str],
    appends: list[TableAppend],
    record: Callable[[sa.Connection], None] = lambda _: None,
) -> int:
    """Write the embeddings of some structures to several tables, and commit them.

    record: writes what else belongs to the chunk.

    Returns the chunk's id, which every one of its rows carries in Lance.
    """
    with uninterrupted():
        chunk = write_chunk(writer.location, appends)
        commit_written(writer, run_id, structure_ids, chunk, record)
    return chunk.id


@uninterrupted()
def commit_written(
    writer: Writer,
    run_id: int,
    structure_ids: list[str],
    chunk: WrittenChunk,
    record: Callable[[sa.Connection], None] = lambda _: None,
) -> None:
    """Commit a chunk that is written, wherever that was done; published when it is due."""
    with writer.writing() as connection:
        for one in chunk.tables:
            writer.add_fragments(one.table, one.fragments, one.files)
        connection.execute(sa.insert(t.chunks).values(id=chunk.id, run_id=run_id))
        ids = pa.array(structure_ids, pa.string())
        places = pa.array([chunk.id] * len(ids), pa.int64())
        insert_arrow(
            connection, "chunk_structures", pa.table({"chunk_id": places, "structure_id": ids})
        )
        _record_appends(connection, [(one.table, chunk.id, one.rows) for one in chunk.tables])
        record(connection)
    _log.info("committed chunk %d: %d structures of run %d", chunk.id, len(structure_ids), run_id)
    writer.publish_if_due()


@uninterrupted()
def commit_projection(
    writer: Writer,
    rows: dict[str, dict[int, int]],
    streams: dict[str, pa.RecordBatchReader],
) -> None:
    """Commit rows of known chunks in several tables; published when it is due.

    rows: {table: {chunk: rows}}; streams: {table: its rows, with their chunk_id}, consumed in this
    order.
    """
    with writer.writing() as connection:
        for name, stream in streams.items():
            writer.append(name, stream)
        _record_appends(
            connection,
            [(name, chunk, n) for name, chunks in rows.items() for chunk, n in chunks.items()],
        )
    _log.info("committed coordinates: %s", ", ".join(rows))
    writer.publish_if_due()


def _record_appends(connection: sa.Connection, rows: Iterable[tuple[str, int, int]]) -> None:
    connection.execute(
        sa.insert(t.table_appends),
        [{"table_name": table, "chunk_id": chunk, "rows": count} for table, chunk, count in rows],
    )


def _tagged(append: TableAppend, chunk_id: int, target: pa.Schema) -> pa.Table:
    chunk = pa.array([chunk_id] * append.rows.num_rows, pa.int64())
    rows = append.rows.append_column(pa.field("chunk_id", pa.int64()), chunk)
    if target.field("vector").type.value_type == pa.float16():
        largest = float(np.abs(vector_matrix(rows["vector"])).max(initial=0))
        if largest > LARGEST_HALF:
            raise InvalidQuery(
                f"{append.table}: a number of {largest:.3g} is beyond float16",
                "store it in float32, in a new store",
            )
    return rows.select(target.names).cast(target)


def delete_empty_chunks(connection: sa.Connection) -> None:
    """Forget the chunks of which no table has rows."""
    used = sa.select(t.table_appends.c.chunk_id)
    connection.execute(
        sa.delete(t.chunk_structures).where(t.chunk_structures.c.chunk_id.not_in(used))
    )
    connection.execute(sa.delete(t.chunks).where(t.chunks.c.id.not_in(used)))
