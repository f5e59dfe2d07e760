"""One truth over two stores.

No transaction spans DuckDB and Lance. The order makes one: what is about to be written goes into
the catalogue as pending, the rows go into Lance and onto the disk, and one catalogue transaction
declares them committed and names the Lance versions that readers may see, who do when it is
published. Whatever stops in between is settled by `recover`, which every writer runs first: what
Lance has whole is rolled forward, the rest is dropped.
"""

import signal
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import pyarrow as pa
import sqlalchemy as sa

from platonic_store.storage import tables as t
from platonic_store.storage.catalog import Catalog, insert_arrow, next_id
from platonic_store.storage.layout import Level, table_name
from platonic_store.storage.sqltext import literals
from platonic_store.storage.vectors import Vectors, schema


class Fill(NamedTuple):
    """Rows for one vector table: any of the table's columns but `chunk_id`, which is added."""

    table: str
    rows: pa.Table


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put Ctrl-C off to the end of the block.

    Lance writes in a thread of its own. A call that is interrupted leaves it writing, maybe after
    the next writer has settled what it found.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # where Ctrl-C never arrives
        return
    pressed: list[tuple] = []
    handler = signal.signal(signal.SIGINT, lambda *arguments: pressed.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if pressed and callable(handler):
        handler(*pressed[0])


@contextmanager
def writer(catalog: Catalog, vectors: Vectors) -> Iterator[dict[str, int]]:
    """Be the one writer of a store, which is made if there is none, to the end of the block.

    Its tables are today's, and nothing is half done; gives what `recover` had to settle. What is
    committed within the block is published at its end, if not before.

    Raises: StoreBusy, StoreNotWritable, StoreTooNew.
    """
    with catalog.locked():
        vectors.folder.mkdir(exist_ok=True)
        catalog.migrate()
        settled = recover(catalog, vectors)
        catalog.publish()
        try:
            yield settled
        finally:
            catalog.publish()


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
    catalog: Catalog, vectors: Vectors, run_id: int, structure_ids: list[str], fills: list[Fill]
) -> int:
    """Commit the embeddings of some structures to several tables, all or none.

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
        _announce(connection, [(fill.table, chunk_id, fill.rows.num_rows) for fill in fills])
    versions = {fill.table: vectors.append(fill.table, _tagged(fill, chunk_id)) for fill in fills}
    declare_committed(catalog, versions)
    return chunk_id


@uninterrupted()
def commit_projection(
    catalog: Catalog,
    vectors: Vectors,
    rows: dict[str, dict[int, int]],
    streams: dict[str, pa.RecordBatchReader],
) -> None:
    """Commit rows of known chunks, which they carry already, to several tables, all or none.

    rows: {table: {chunk: rows}}; streams: {table: its rows}, consumed in this order.
    """
    with catalog.writing() as connection:
        _announce(
            connection,
            [(name, chunk, n) for name, chunks in rows.items() for chunk, n in chunks.items()],
        )
    declare_committed(
        catalog, {name: vectors.append(name, stream) for name, stream in streams.items()}
    )
    catalog.publish()


def _announce(connection: sa.Connection, rows: Iterable[tuple[str, int, int]]) -> None:
    connection.execute(
        sa.insert(t.table_appends),
        [
            {"table_name": table, "chunk_id": chunk, "rows": count, "committed": False}
            for table, chunk, count in rows
        ],
    )


def _tagged(fill: Fill, chunk_id: int) -> pa.Table:
    chunk = pa.array([chunk_id] * fill.rows.num_rows, pa.int64())
    rows = fill.rows.append_column(pa.field("chunk_id", pa.int64()), chunk)
    level: Level = "atom" if "site_index" in rows.column_names else "structure"
    target = schema(level, rows["vector"].type.list_size)
    return rows.select(target.names).cast(target)


def declare_committed(catalog: Catalog, versions: dict[str, int]) -> None:
    """Make these Lance versions, and all that was pending in their tables, what readers see."""
    with catalog.writing() as connection:
        for name, version in versions.items():
            connection.execute(
                sa.update(t.table_appends)
                .where(t.table_appends.c.table_name == name, ~t.table_appends.c.committed)
                .values(committed=True)
            )
            _set_version(connection, name, version)


def _set_version(connection: sa.Connection, name: str, version: int) -> None:
    connection.execute(
        sa.update(t.vector_tables).where(t.vector_tables.c.name == name).values(version=version)
    )


@uninterrupted()
def recover(catalog: Catalog, vectors: Vectors) -> dict[str, int]:
    """Settle what a killed writer left: returns how many chunks were rolled forward and dropped.

    Run under the write lock only.
    """
    settled = {"rolled forward": 0, "dropped": 0, "deletions finished": 0}
    with catalog.reading() as connection:
        pending = connection.execute(
            sa.select(t.table_appends).where(~t.table_appends.c.committed)
        ).all()
        deletions = connection.scalars(sa.select(t.deletions.c.structure_id)).all()
        stale = connection.scalar(
            sa.select(sa.func.count()).select_from(t.runs).where(t.runs.c.state == "running")
        )
    if pending:
        _settle_chunks(catalog, vectors, pending, settled)
    if deletions:
        finish_deletions(catalog, vectors, list(deletions))
        settled["deletions finished"] = len(deletions)
    if stale:
        with catalog.writing() as connection:
            connection.execute(
                sa.update(t.runs).where(t.runs.c.state == "running").values(state="interrupted")
            )
    return settled


def _settle_chunks(
    catalog: Catalog, vectors: Vectors, pending: Sequence[sa.Row], settled: dict
) -> None:
    expected: dict[int, dict[str, int]] = defaultdict(dict)
    for fill in pending:
        expected[fill.chunk_id][fill.table_name] = fill.rows
    names = {fill.table_name for fill in pending}
    present = {name: vectors.rows_by_chunk(name) for name in names}
    whole = {
        chunk
        for chunk, tables in expected.items()
        if all(present[name].get(chunk, 0) == rows for name, rows in tables.items())
    }
    dropped = set(expected) - whole
    for name in names:
        partial = [chunk for chunk in dropped if present[name].get(chunk)]
        if partial:
            vectors.delete(name, f"chunk_id IN ({', '.join(map(str, partial))})")
    for name in names:
        vectors.sync(name)
    versions = {name: vectors.latest(name) for name in names}
    with catalog.writing() as connection:
        for chunk in dropped:
            connection.execute(
                sa.delete(t.table_appends).where(
                    t.table_appends.c.chunk_id == chunk, ~t.table_appends.c.committed
                )
            )
        _drop_empty_chunks(connection)
    declare_committed(catalog, versions)
    settled["rolled forward"], settled["dropped"] = len(whole), len(dropped)


def _drop_empty_chunks(connection: sa.Connection) -> None:
    filled = sa.select(t.table_appends.c.chunk_id)
    connection.execute(
        sa.delete(t.chunk_structures).where(t.chunk_structures.c.chunk_id.not_in(filled))
    )
    connection.execute(sa.delete(t.chunks).where(t.chunks.c.id.not_in(filled)))


@uninterrupted()
def delete_structures(catalog: Catalog, vectors: Vectors, structure_ids: list[str]) -> None:
    """Delete structures and their vectors everywhere; all or, after `recover`, all."""
    with catalog.writing() as connection:
        insert_arrow(
            connection,
            "deletions",
            pa.table({"structure_id": structure_ids}),
            conflict="ON CONFLICT DO NOTHING",
        )
    finish_deletions(catalog, vectors, structure_ids)


def finish_deletions(catalog: Catalog, vectors: Vectors, structure_ids: list[str]) -> None:
    """Carry out deletions that the catalogue has announced."""
    with catalog.reading() as connection:
        tables = connection.execute(sa.select(t.vector_tables)).all()
    condition = f"structure_id IN ({literals(structure_ids)})"
    # Counted at the committed version, so the same however often this is begun.
    gone = {
        table.name: vectors.rows_by_chunk(table.name, table.version, condition) for table in tables
    }
    versions = {name: vectors.delete(name, condition) for name, rows in gone.items() if rows}
    with catalog.writing() as connection:
        for name, version in versions.items():
            _set_version(connection, name, version)
            for chunk, rows in gone[name].items():
                connection.execute(
                    sa.update(t.table_appends)
                    .where(
                        t.table_appends.c.table_name == name, t.table_appends.c.chunk_id == chunk
                    )
                    .values(rows=t.table_appends.c.rows - rows)
                )
        for table, column in (
            (t.structures, t.structures.c.id),
            (t.properties, t.properties.c.structure_id),
            (t.source_structures, t.source_structures.c.structure_id),
            (t.chunk_structures, t.chunk_structures.c.structure_id),
            (t.deletions, t.deletions.c.structure_id),
        ):
            connection.execute(sa.delete(table).where(column.in_(structure_ids)))
        _delete_scores(connection, structure_ids)
        # What a model made of a structure that is gone; what a source said of it stays true.
        connection.execute(
            sa.delete(t.quarantined).where(
                t.quarantined.c.model.is_not(None),
                t.quarantined.c.structure_id.in_(structure_ids),
            )
        )
        connection.execute(
            sa.delete(t.table_appends).where(
                t.table_appends.c.committed, t.table_appends.c.rows <= 0
            )
        )
        _drop_empty_chunks(connection)


def _delete_scores(connection: sa.Connection, structure_ids: list[str]) -> None:
    """Delete the scores of structures, and every reference that one of them was part of.

    A reference is immutable: all that was scored against it counted with what is gone.
    """
    members = t.reference_structures
    retired = connection.scalars(
        sa.select(members.c.reference).where(members.c.structure_id.in_(structure_ids)).distinct()
    ).all()
    delete_references(connection, retired)
    for table in (t.structure_scores, t.atom_scores):
        connection.execute(sa.delete(table).where(table.c.structure_id.in_(structure_ids)))


def delete_references(connection: sa.Connection, references: Sequence[str]) -> None:
    """Delete references with all that was scored against them."""
    for column in (
        t.reference_sets.c.id,
        t.reference_structures.c.reference,
        t.structure_scores.c.reference,
        t.atom_scores.c.reference,
    ):
        connection.execute(sa.delete(column.table).where(column.in_(references)))


# A line of text for everything that the catalogue's tables do not agree on among themselves.
_CONTRADICTIONS = (
    """
    SELECT format('{} embedded structures are not in the catalogue', count(*))
    FROM chunk_structures ANTI JOIN structures ON structures.id = chunk_structures.structure_id
    HAVING count(*) > 0
    """,
    """
    SELECT format('{} has {} structures more than once', table_name, count(*))
    FROM (
        SELECT f.table_name, c.structure_id
        FROM table_appends AS f JOIN chunk_structures AS c USING (chunk_id)
        WHERE f.committed GROUP BY ALL HAVING count(*) > 1
    ) GROUP BY table_name
    """,
    """
    SELECT format('{} should have {} rows by its structures, and {} by its chunks', name, due, rows)
    FROM (
        SELECT v.name, sum(f.rows)::BIGINT AS rows, sum(c.due)::BIGINT AS due
        FROM table_appends AS f
        JOIN vector_tables AS v ON v.name = f.table_name
        JOIN (
            SELECT c.chunk_id, level, sum(if(level = 'atom', s.nsites, 1)) AS due
            FROM chunk_structures AS c JOIN structures AS s ON s.id = c.structure_id,
            unnest(['atom', 'structure']) AS levels (level)
            GROUP BY ALL
        ) AS c ON c.chunk_id = f.chunk_id AND c.level = v.level
        WHERE f.committed GROUP BY v.name
    ) WHERE rows != due
    """,
    """
    SELECT format('{} structures are scored against a reference that is not there', count(*))
    FROM structure_scores AS c ANTI JOIN reference_sets AS r ON r.id = c.reference
    HAVING count(*) > 0
    """,
    """
    SELECT format('{} of the structures scored against {} lack atoms', count(*), reference)
    FROM (
        SELECT reference, structure_id, count(*) AS atoms FROM atom_scores GROUP BY ALL
    ) AS a
    FULL JOIN structure_scores AS c USING (reference, structure_id)
    LEFT JOIN structures AS s ON s.id = structure_id
    WHERE c.atypicality IS NULL OR a.atoms IS DISTINCT FROM len(list_distinct(s.orbits))
    GROUP BY reference
    """,
)


def verify(catalog: Catalog, vectors: Vectors) -> list[str]:
    """What does not hold between catalogue and vectors, a line each; empty when all is well."""
    with catalog.reading() as connection:
        tables = connection.execute(sa.select(t.vector_tables)).all()
        fills = connection.execute(
            sa.select(t.table_appends).where(t.table_appends.c.committed)
        ).all()
        problems = [
            line for sql in _CONTRADICTIONS for line in connection.scalars(sa.text(sql)).all()
        ]
    expected: dict[str, dict[int, int]] = defaultdict(dict)
    for fill in fills:
        expected[fill.table_name][fill.chunk_id] = fill.rows
    for table in tables:
        problems += _damage(vectors, table.name, table.version, expected[table.name])
    return problems


def _damage(vectors: Vectors, name: str, committed: int, expected: dict[int, int]) -> list[str]:
    """What is wrong with a table as readers see it, or as the next commit would build on it."""
    try:
        for version in sorted({committed, vectors.latest(name)}):
            present = vectors.rows_by_chunk(name, version)
            if present != expected:
                return [
                    f"{name} holds {sum(present.values())} rows at version {version}, "
                    f"the catalogue expects {sum(expected.values())}"
                ]
    except (OSError, ValueError, RuntimeError) as error:
        return [f"{name} cannot be read: {str(error).splitlines()[0]}"]
    return []


def maintain(catalog: Catalog, vectors: Vectors, names: Iterable[str] | None = None) -> None:
    """Compact tables (all, if none is named) and bring their indexes up to date."""
    with catalog.reading() as connection:
        versions = dict(
            connection.execute(sa.select(t.vector_tables.c.name, t.vector_tables.c.version)).all()
        )
    for name in versions if names is None else names:
        version = vectors.maintain(name)
        if version != versions[name]:
            declare_committed(catalog, {name: version})
        vectors.forget_old_versions(name)
    catalog.publish()
