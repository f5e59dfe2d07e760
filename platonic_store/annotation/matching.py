"""Which structure of the store each record of a target is; what the store lacks is ingested."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from platonic_store import progress
from platonic_store.annotation.targets import PREFIX, Key, Record, Target, batches
from platonic_store.errors import LayerNotFound, ModelNotFound, StoreNotFound
from platonic_store.runtimes.cards import layers_wanted, resolve
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot
from platonic_store.storage.sqltext import literals
from platonic_store.structures import Crystal, Rejected, content_hash
from platonic_store.structures.records import crystal

ROUNDING = 1e-4  # Å; two structures of one id that differ by less are the same structure
T = TypeVar("T")


class AnnotatingStore(Protocol):
    """The methods of a store that annotation calls."""

    def snapshot(self) -> Snapshot:
        """One state of the store."""

    def ingest(
        self, source: Any = ..., models: list[str] | tuple[str, ...] = ..., *, layers: str = ...
    ) -> object:
        """Read structures and embed them."""

    def score(self, models: list[str] | tuple[str, ...] = ...) -> object:
        """Score the typicality of all structures."""


class Identity(NamedTuple):
    """What a record can be matched by, in any state of the store.

    id: its own. content: the hash of its structure, if it has one. rounded: the content hash of the
    stored structure of its id, where that is the record's but for rounding. reason: why it has no
    structure that can be used.
    """

    key: Key
    id: str | None
    content: str | None = None
    rounded: str | None = None
    reason: str | None = None


class Match(NamedTuple):
    """A record and its structure in the store, or the reason why it has none.

    again: an earlier record is the same structure.
    """

    key: Key
    id: str | None
    reason: str | None = None
    again: bool = False


def model_layers(store: AnnotatingStore, models: Iterable[str], ingest: bool) -> list[ModelLayer]:
    """Models written MODEL or MODEL@LAYER; with `ingest` also those that are not in the store yet.

    Without names all of the store, controls left out.
    """
    if models:
        return list(dict.fromkeys(_model_layer(store, name, ingest) for name in models))
    snapshot = store.snapshot()
    stored = list(snapshot.models)
    names = snapshot.trained_models or stored or [""]
    return [lookup.model_layer(snapshot, name) for name in names]


def _model_layer(store: AnnotatingStore, text: str, ingest: bool) -> ModelLayer:
    try:
        return lookup.model_layer(store.snapshot(), text)
    except (ModelNotFound, LayerNotFound, StoreNotFound):
        if not ingest:
            raise
    name, _, layer = text.partition("@")
    card = resolve(name)
    return ModelLayer(card.name, layers_wanted(card, layer)[0] if layer else card.default_layer)


def identify(store: AnnotatingStore, target: Target) -> list[Identity]:
    """The identity of every record, in the target's order."""
    identities: list[Identity] = []
    with progress.counting("matching records", "records") as advance:
        for part in batches(target.records()):
            named = [record.id for record in part if record.id and record.crystal is not None]
            stored = _structures(store, named)
            identities += [_identity(record, stored.get(record.id or "")) for record in part]
            advance(len(part))
    return identities


def _identity(record: Record, stored: Crystal | None) -> Identity:
    if record.crystal is None:
        return Identity(record.key, record.id)
    if isinstance(record.crystal, Rejected):
        return Identity(record.key, record.id, reason=record.crystal.reason)
    is_rounded = stored is not None and _is_same(record.crystal, stored)
    rounded = content_hash(stored) if stored is not None and is_rounded else None
    return Identity(record.key, record.id, content_hash(record.crystal), rounded)


def _is_same(one: Crystal, other: Crystal) -> bool:
    return (
        np.array_equal(one.numbers, other.numbers)
        and np.allclose(one.positions, other.positions, rtol=0, atol=ROUNDING)
        and np.allclose(one.cell, other.cell, rtol=0, atol=ROUNDING)
    )


def match(identities: Iterable[Identity], contents: Mapping[str, str]) -> list[Match]:
    """Each record's structure in one state of the store.

    A record with a structure is the stored one of its id, if they are the same but for rounding,
    else the one of the same content under another id. A record without is that of its id.

    Args:
        contents: of every structure of the store, its id and its content hash.
    """
    matches = []
    seen: set[str] = set()
    for identity, id in zip(identities, _ids(identities, contents), strict=True):
        reason = None if id else _reason(identity)
        matches.append(Match(identity.key, id, reason, id in seen))
        if id:
            seen.add(id)
    return matches


def _ids(identities: Iterable[Identity], contents: Mapping[str, str]) -> list[str | None]:
    first: dict[str, str] = {}  # of the ids of one content
    for id in sorted(contents):
        first.setdefault(contents[id], id)

    def found(identity: Identity) -> str | None:
        if identity.reason:
            return None
        stored = contents.get(identity.id or "")
        if identity.content is None:
            return identity.id if stored else None
        is_own = stored is not None and stored in (identity.content, identity.rounded)
        return identity.id if is_own else first.get(identity.content)

    return [found(identity) for identity in identities]


def _reason(identity: Identity) -> str:
    if identity.reason:
        return identity.reason
    if identity.content:
        return "its structure is not in the store"
    return f"no structure {identity.id} in the store" if identity.id else "it has no id"


def ingest_missing(
    store: AnnotatingStore, target: Target, identities: Sequence[Identity], layer: ModelLayer
) -> None:
    """Ingest the target's structures that a model has neither embedded nor rejected."""
    contents = _contents(store)
    ids = _ids(identities, contents)
    done = _embedded_or_rejected(store, layer)
    wanted = [
        id not in done if id else identity.content is not None
        for identity, id in zip(identities, ids, strict=True)
    ]
    if any(wanted):
        missing = _missing(store, target, zip(ids, wanted, strict=True), contents)
        store.ingest(missing, [layer.model], layers=str(layer.layer))


def _missing(
    store: AnnotatingStore,
    target: Target,
    states: Iterator[tuple[str | None, bool]],
    contents: Mapping[str, str],
) -> Iterator[tuple[str, Crystal]]:
    """The wanted structures of the target, under their ids in the store.

    A new one has its own id, or if that is another structure's, its content hash.
    """
    taken = dict(contents)
    for part in batches(zip(target.records(), states, strict=True)):
        yield from _structures(store, [id for _, (id, wanted) in part if id and wanted]).items()
        for record, (id, wanted) in part:
            if id or not wanted or not isinstance(record.crystal, Crystal):
                continue
            content = content_hash(record.crystal)
            is_free = record.id is not None and taken.get(record.id, content) == content
            name = str(record.id) if is_free else content
            taken[name] = content
            properties = {
                name: value
                for name, value in record.crystal.properties.items()
                if not name.startswith(PREFIX)
            }
            yield name, record.crystal._replace(properties=properties)


def _embedded_or_rejected(store: AnnotatingStore, layer: ModelLayer) -> set[str]:
    """The structures that a model has embedded, or rejected."""

    def query(snapshot: Snapshot) -> set[str]:
        rejected = snapshot.rows(
            "SELECT structure_id FROM catalog.main.quarantined WHERE model = ?", [layer.model]
        )
        found = {id for (id,) in rejected}
        try:
            table = lookup.vector_table(snapshot, layer, "structure")
        except LayerNotFound:
            return found
        return found | set(snapshot.points(table).column("structure_id"))

    return _read(store, query, empty=set())


def _structures(store: AnnotatingStore, ids: Sequence[str]) -> dict[str, Crystal]:
    """Stored structures by their ids, without their properties."""
    if not ids:
        return {}
    sql = (
        "SELECT structure_id, numbers, positions, cell, pbc FROM crystals "
        f"WHERE structure_id IN ({literals(ids)})"
    )

    def query(snapshot: Snapshot) -> dict[str, Crystal]:
        rows = snapshot.rows(sql)
        return {
            id: crystal(id, numbers, positions, cell, pbc, {})
            for id, numbers, positions, cell, pbc in rows
        }

    return _read(store, query, empty={})


def _contents(store: AnnotatingStore) -> dict[str, str]:
    """The content hash of every stored structure, by its id."""
    sql = "SELECT id, content_hash FROM catalog.main.structures"
    return _read(store, lambda snapshot: dict(snapshot.rows(sql)), empty={})


def _read(store: AnnotatingStore, query: Callable[[Snapshot], T], empty: T) -> T:
    """What a query finds in the store as it is now; `empty` where nothing was ingested yet."""
    try:
        return query(store.snapshot())
    except StoreNotFound:
        return empty
