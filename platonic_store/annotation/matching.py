"""Which structure of the store each record of a target is; what the store lacks is ingested."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from platonic_store import progress
from platonic_store.annotation.targets import PREFIX, Key, Record, Target, batches
from platonic_store.errors import LayerNotFound, ModelNotFound, StoreNotFound
from platonic_store.runtimes.cards import kind_of, layers_wanted, resolve
from platonic_store.storage.snapshot import ModelLayer
from platonic_store.structures import Crystal, Rejected, content_hash
from platonic_store.structures.records import crystal

if TYPE_CHECKING:
    from platonic_store.store import Store


ROUNDING = 1e-4  # Å; under one id, what differs by less is one structure written twice


class Match(NamedTuple):
    """A record, the structure of the store that it is, or why it is none.

    again: an earlier record is the same structure.
    """

    key: Key
    id: str | None
    reason: str | None = None
    again: bool = False


def sides_of(store: "Store", models: Iterable[str], ingest: bool) -> list[ModelLayer]:
    """Models written MODEL or MODEL@LAYER; with `ingest` also those that are not here yet.

    None named means all that the store has but the controls.
    """
    if not models:
        with store.snapshot() as snapshot:
            here = snapshot.models()
            trained = [name for name in here if kind_of(name) == "trained"]
            return [snapshot.model_layer(name) for name in trained or here or [""]]
    return list(dict.fromkeys(_side(store, name, ingest) for name in models))


def _side(store: "Store", text: str, ingest: bool) -> ModelLayer:
    try:
        with store.snapshot() as snapshot:
            return snapshot.model_layer(text)
    except (ModelNotFound, LayerNotFound, StoreNotFound):
        if not ingest:
            raise
    name, _, layer = text.partition("@")
    card = resolve(name)
    return ModelLayer(card.name, layers_wanted(card, layer or "default")[0])


def match(store: "Store", target: Target, sides: list[ModelLayer], ingest: bool) -> list[Match]:
    """Every record's structure in the store, in the target's order.

    A record with a structure is the stored one of its id, if they are the same but for rounding,
    else the one of the same content under whatever id. A record without is that of its id. With
    `ingest`, structures that the store has not, or a model has not embedded, are ingested first.
    """
    matches = _matched(store, target)
    new = [_ingested(store, target, matches, side) for side in sides if ingest]
    return _matched(store, target) if any(new) else matches


def _matched(store: "Store", target: Target) -> list[Match]:
    matches = []
    seen: set[str | None] = set()
    with progress.counting("matching records", "records") as advance:
        for part in batches(target.records()):
            for record, id in zip(part, _found(store, part), strict=True):
                is_new = id is None and isinstance(record.crystal, Crystal)
                reason = None if id or is_new else _reason(record)
                matches.append(Match(record.key, id, reason, id in seen))
                seen.add(id)
            advance(len(part))
    return matches


def _ingested(store: "Store", target: Target, matches: list[Match], side: ModelLayer) -> bool:
    """Whether the target had structures that a model had not met, and that are ingested now."""
    met = _met(store, side)
    if all(match.reason or match.id in met for match in matches):
        return False
    store.ingest(_lacking(store, target, met), [side.model], layers=str(side.layer))
    return True


def _lacking(store: "Store", target: Target, met: set[str]) -> Iterator[tuple[str, Crystal]]:
    """The structures of the target, under their ids in the store, but those `met`.

    A new one has its own id, or where that is taken by another structure, its content's hash.
    """
    named: dict[str, str] = {}
    for part in batches(target.records()):
        found = _found(store, part)
        stored = _crystals(store, [id for id in found if id is not None and id not in met])
        yield from stored.items()
        taken = _stored(store, "id", [record.id for record in part if record.id]) | named
        for record, id in zip(part, found, strict=True):
            if id is None and isinstance(record.crystal, Crystal):
                digest = content_hash(record.crystal)
                is_free = record.id is not None and taken.get(record.id, digest) == digest
                name = str(record.id) if is_free else digest
                named[name] = taken[name] = digest
                own = record.crystal.properties.items()
                kept = {name: value for name, value in own if not name.startswith(PREFIX)}
                yield name, record.crystal._replace(properties=kept)


def _met(store: "Store", side: ModelLayer) -> set[str]:
    """The structures that a model has embedded or refused."""
    if store.catalog.revision() is None:
        return set()
    with store.snapshot() as snapshot:
        refused = snapshot.rows(
            "SELECT structure_id FROM catalog.main.quarantined WHERE model = ?", [side.model]
        )
        try:
            table = snapshot.embeddings(*side, "structure")
        except LayerNotFound:
            return {id for (id,) in refused}
        return {id for (id,) in refused} | set(snapshot.points(table).column("structure_id"))


def _found(store: "Store", records: list[Record]) -> list[str | None]:
    """The ids in the store of some records, by content or else by id."""
    hashes = [
        content_hash(record.crystal) if isinstance(record.crystal, Crystal) else None
        for record in records
    ]
    same: dict[str, list[str]] = {}
    for id, digest in _stored(store, "content_hash", [h for h in hashes if h]).items():
        same.setdefault(digest, []).append(id)
    named = [record for record in records if record.id and not isinstance(record.crystal, Rejected)]
    known = _stored(store, "id", [str(record.id) for record in named])
    named = [record for record in named if record.id in known]
    alike = _alike(store, [record for record in named if record.crystal is not None])
    alike |= {record.id for record in named if record.crystal is None}
    return [
        record.id if record.id in alike else min(same.get(digest or "", []), default=None)
        for record, digest in zip(records, hashes, strict=True)
    ]


def _alike(store: "Store", records: list[Record]) -> set[str | None]:
    """The ids of records whose structure is the stored one of that id, but for rounding."""
    stored = _crystals(store, [str(record.id) for record in records])
    return {
        record.id
        for record in records
        if isinstance(record.crystal, Crystal) and _same(record.crystal, stored[str(record.id)])
    }


def _same(one: Crystal, other: Crystal) -> bool:
    return (
        np.array_equal(one.numbers, other.numbers)
        and np.allclose(one.positions, other.positions, rtol=0, atol=ROUNDING)
        and np.allclose(one.cell, other.cell, rtol=0, atol=ROUNDING)
    )


def _crystals(store: "Store", ids: list[str]) -> dict[str, Crystal]:
    """Stored structures by their ids, without their properties."""
    if not ids:
        return {}
    query = (
        "SELECT id, numbers, positions, cell, pbc FROM catalog.main.structures "
        "WHERE id IN (SELECT unnest(?))"
    )
    rows = store.snapshot().cursor().execute(query, [ids]).to_arrow_table().to_pylist()
    return {row["id"]: crystal(**row, properties={}) for row in rows}


def _stored(store: "Store", column: str, values: list[str]) -> dict[str, str]:
    """id → content hash of the stored structures that have one of these values."""
    if not values or store.catalog.revision() is None:
        return {}
    query = (
        f"SELECT id, content_hash FROM catalog.main.structures WHERE {column} IN (SELECT unnest(?))"
    )
    return dict(store.snapshot().rows(query, [values]))


def _reason(record: Record) -> str:
    if isinstance(record.crystal, Rejected):
        return record.crystal.reason
    return f"no structure {record.id} in the store" if record.id else "it has no id"
