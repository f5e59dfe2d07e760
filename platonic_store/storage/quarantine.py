"""The quarantine: records that could not be read, structures that a model refused, and why."""

from collections.abc import Sequence

import sqlalchemy as sa
from ase.data import atomic_numbers, chemical_symbols

from platonic_store.storage import tables as t
from platonic_store.storage.catalog import fetch_arrow
from platonic_store.storage.writer import Writer

_UNSUPPORTED = """
SELECT s.id, list_filter(s.elements, lambda e: NOT list_contains(?::VARCHAR[], e)) AS unknown
FROM structures AS s
WHERE (? IS NULL OR s.id IN (SELECT structure_id FROM source_structures WHERE source_id = ?))
AND len(unknown) > 0
AND s.id NOT IN (SELECT q.structure_id FROM quarantined AS q WHERE q.model = ?)
"""


def add(
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


def new_rejections(
    connection: sa.Connection, source: int, rejections: list[tuple[str, str | None, str]]
) -> list[tuple[str, str | None, str]]:
    """Those that the quarantine does not say already."""
    held = t.quarantined.c
    said = sa.select(held.record, held.structure_id, held.reason).where(
        held.source_id == source, held.model.is_(None)
    )
    known = {tuple(row) for row in connection.execute(said)} if rejections else set()
    return [one for one in rejections if one not in known]


def clear(connection: sa.Connection, model: str, ids: set[str]) -> None:
    """Strike from the quarantine what a model has embedded after all."""
    held = t.quarantined.c.model == model
    if ids and connection.scalar(sa.select(sa.func.count()).where(held)):
        connection.execute(
            sa.delete(t.quarantined).where(held, t.quarantined.c.structure_id.in_(ids))
        )


def add_unsupported(writer: Writer, source: int | None, model: str, elements: list[int]) -> int:
    """Quarantine a source's structures with elements that the model does not know.

    elements: the atomic numbers that it knows. Returns how many structures are new there.
    """
    with writer.reading() as connection:
        parameters = [symbols_of(elements), source, source, model]
        unsupported = fetch_arrow(connection, _UNSUPPORTED, parameters).to_pylist()
    rejections = []
    for row in unsupported:
        names = ", ".join(sorted(row["unknown"], key=atomic_numbers.__getitem__))
        rejections.append((row["id"], row["id"], f"{model} does not know element {names}"))
    if rejections:
        with writer.writing() as connection:
            add(connection, source, model, rejections)
    return len(rejections)


def symbols_of(elements: list[int]) -> list[str]:
    """The symbols of elements, by their atomic numbers."""
    return [chemical_symbols[number] for number in elements]
