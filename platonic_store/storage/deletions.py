"""Deletions: of structures with all that hangs on them, and of references with their scores."""

import logging
from collections.abc import Sequence

import pyarrow as pa
import sqlalchemy as sa

from platonic_store.storage import tables as t
from platonic_store.storage.catalog import Catalog, insert_arrow
from platonic_store.storage.commits import delete_empty_chunks, set_version
from platonic_store.storage.interrupts import uninterrupted
from platonic_store.storage.sqltext import literals
from platonic_store.storage.vectors import Vectors

_log = logging.getLogger(__name__)


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
    appends = t.table_appends.c
    with catalog.writing() as connection:
        for name, version in versions.items():
            set_version(connection, name, version)
            for chunk, rows in gone[name].items():
                connection.execute(
                    sa.update(t.table_appends)
                    .where(appends.table_name == name, appends.chunk_id == chunk)
                    .values(rows=appends.rows - rows)
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
        connection.execute(sa.delete(t.table_appends).where(appends.committed, appends.rows <= 0))
        delete_empty_chunks(connection)
    _log.info("deleted %d structures", len(structure_ids))


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
