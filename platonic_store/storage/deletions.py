"""Deletions: of structures with all that hangs on them, and of references with their scores."""

import logging
from collections.abc import Sequence

import sqlalchemy as sa

from platonic_store.storage import lookup
from platonic_store.storage import tables as t
from platonic_store.storage.commits import delete_empty_chunks
from platonic_store.storage.interrupts import uninterrupted
from platonic_store.storage.sqltext import literals
from platonic_store.storage.writer import Writer

_OF_STRUCTURES = (
    *("crystals", "structure_predictions", "atom_predictions"),
    *("structure_map", "atom_map", "layout_points"),
)
_log = logging.getLogger(__name__)


@uninterrupted()
def delete_structures(writer: Writer, structure_ids: list[str]) -> None:
    """Delete structures and their vectors everywhere, all in one snapshot."""
    writer.publish()
    condition = f"structure_id IN ({literals(structure_ids)})"
    appends = t.table_appends.c
    with writer.writing() as connection:
        for name in writer.vector_tables:
            for chunk, rows in writer.delete(name, condition).items():
                connection.execute(
                    sa.update(t.table_appends)
                    .where(appends.table_name == name, appends.chunk_id == chunk)
                    .values(rows=appends.rows - rows)
                )
        for table, column in (
            (t.structures, t.structures.c.id),
            (t.source_structures, t.source_structures.c.structure_id),
            (t.chunk_structures, t.chunk_structures.c.structure_id),
        ):
            connection.execute(sa.delete(table).where(column.in_(structure_ids)))
        _delete_scores(writer, connection, structure_ids)
        for bulk_table in _OF_STRUCTURES:
            writer.delete_rows_of(bulk_table, structure_ids)
        # What a model made of a structure that is gone; what a source said of it stays true.
        connection.execute(
            sa.delete(t.quarantined).where(
                t.quarantined.c.model.is_not(None),
                t.quarantined.c.structure_id.in_(structure_ids),
            )
        )
        connection.execute(sa.delete(t.table_appends).where(appends.rows <= 0))
        delete_empty_chunks(connection)
    _log.info("deleted %d structures", len(structure_ids))
    writer.publish()


def _delete_scores(writer: Writer, connection: sa.Connection, structure_ids: list[str]) -> None:
    """Delete the scores of structures, and every reference that one of them was part of.

    A reference is immutable: all that was scored against it counted with what is gone.
    """
    members = t.reference_structures
    retired = connection.scalars(
        sa.select(members.c.reference).where(members.c.structure_id.in_(structure_ids)).distinct()
    ).all()
    delete_references(writer, connection, retired)
    for table in ("structure_scores", "atom_scores"):
        writer.delete_rows_of(table, structure_ids)


def delete_references(writer: Writer, connection: sa.Connection, references: Sequence[str]) -> None:
    """Delete references with all that was scored against them."""
    if not references:
        return
    for column in (t.reference_sets.c.id, t.reference_structures.c.reference):
        connection.execute(sa.delete(column.table).where(column.in_(references)))
    for table in ("structure_scores", "atom_scores"):
        writer.delete_rows(table, f"reference IN ({literals(references)})")
    names = [name for one in references for name in lookup.reference_names(one)]
    names += [lookup.calibration_name(one) for one in references]
    writer.delete_rows("parameters", f"name IN ({literals(names)})")
