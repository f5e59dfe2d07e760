"""`/extensions/similar`: the structures most alike to one, as entries."""

from collections.abc import Sequence

from platonic_store.questions.shared.inputs import ids_only
from platonic_store.questions.similar import similar
from platonic_store.service.optimade.entries import Page, available, chosen, entries
from platonic_store.service.optimade.filters import condition
from platonic_store.service.optimade.properties import PREFIX, properties, relation
from platonic_store.storage.snapshot import Snapshot


def similar_entries(
    snapshot: Snapshot,
    query: str,
    *,
    model: str | None = None,
    across: str | None = None,
    filter: str = "",
    fields: Sequence[str] | None = None,
    k: int = 20,
) -> Page:
    """The k structures most alike to one of the store, the nearest first.

    filter: in OPTIMADE's language; it is applied first. Each entry has the attributes
    `_platonic_rank` and `_platonic_distance` (1 − cosine).

    Raises: as `similar`, BadRequest, NotImplementedResponse.
    """
    known = properties(snapshot)
    wanted = chosen(known, fields)
    matching = condition(filter, known)
    where = None
    if filter.strip():
        where = (
            f"structure_id IN (SELECT s.structure_id FROM {relation(matching.sql)} "
            f"WHERE {matching.sql})"
        )
    with ids_only():
        found = similar.rows(snapshot, query, model=model, across=across, where=where, k=k)
    alike = entries(snapshot, found["structure_id"].tolist(), wanted)
    for entry, rank, distance in zip(alike, found["rank"], found["distance"], strict=True):
        entry["attributes"] |= {f"{PREFIX}rank": int(rank), f"{PREFIX}distance": float(distance)}
    return Page(alike, len(alike), available(snapshot), matching.warnings, snapshot.id)
