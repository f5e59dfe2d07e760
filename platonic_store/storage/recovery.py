"""The one writer of a store, and how it settles what one before it left half done."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from platonic_store.storage import tables as t
from platonic_store.storage.catalog import Catalog
from platonic_store.storage.commits import commit_versions, delete_empty_chunks
from platonic_store.storage.deletions import finish_deletions
from platonic_store.storage.interrupts import uninterrupted
from platonic_store.storage.vectors import Vectors

_log = logging.getLogger(__name__)


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
def recover(catalog: Catalog, vectors: Vectors) -> dict[str, int]:
    """Settle what a killed writer left: returns how many chunks were rolled forward and dropped.

    For the writer alone.
    """
    settled = {"rolled forward": 0, "dropped": 0, "deletions finished": 0}
    with catalog.reading() as connection:
        pending = connection.execute(
            sa.select(t.table_appends).where(~t.table_appends.c.committed)
        ).all()
        deletions = connection.scalars(sa.select(t.deletions.c.structure_id)).all()
        interrupted = connection.scalars(
            sa.select(t.runs.c.id).where(t.runs.c.state == "running")
        ).all()
    if pending:
        settled |= _settle_chunks(catalog, vectors, pending)
    if deletions:
        finish_deletions(catalog, vectors, list(deletions))
        settled["deletions finished"] = len(deletions)
    if interrupted:
        with catalog.writing() as connection:
            connection.execute(
                sa.update(t.runs).where(t.runs.c.id.in_(interrupted)).values(state="interrupted")
            )
    if any(settled.values()) or interrupted:
        counts = ", ".join(f"{count} {what}" for what, count in settled.items())
        _log.info("recovered %s: chunks %s", catalog.path.parent, counts)
    return settled


def _settle_chunks(
    catalog: Catalog, vectors: Vectors, pending: Sequence[sa.Row[Any]]
) -> dict[str, int]:
    expected: dict[int, dict[str, int]] = defaultdict(dict)
    for append in pending:
        expected[append.chunk_id][append.table_name] = append.rows
    names = {append.table_name for append in pending}
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
        vectors.sync(name)
    versions = {name: vectors.latest(name) for name in names}
    appends = t.table_appends.c
    with catalog.writing() as connection:
        for chunk in dropped:
            connection.execute(
                sa.delete(t.table_appends).where(appends.chunk_id == chunk, ~appends.committed)
            )
        delete_empty_chunks(connection)
    commit_versions(catalog, versions)
    return {"rolled forward": len(whole), "dropped": len(dropped)}
