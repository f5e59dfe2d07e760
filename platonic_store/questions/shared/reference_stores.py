"""Other stores that a question compares with: opened by URI, or by a name that their owner gave.

A text from SQL or from the network names a reference that the store was opened with, and is never
taken for a URI: nobody else decides what this machine reads.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from platonic_store.errors import (
    CheckpointMismatch,
    InvalidQuery,
    LayerNotFound,
    ModelNotFound,
    PlatonicError,
)
from platonic_store.questions.shared.inputs import files_are_allowed
from platonic_store.storage import lookup
from platonic_store.storage.locate import locate
from platonic_store.storage.reader import Reader
from platonic_store.storage.snapshot import ModelLayer, Snapshot

_OPEN = 8  # stores whose files are known in this process
# What must be the same for two embeddings to be of one space, beside the weights.
_SAME = ("protocol", "modality", "cutoff", "dtype")

_readers: OrderedDict[str, Reader] = OrderedDict()
_lock = threading.Lock()


class ReferenceModel(NamedTuple):
    """One layer of a model in a reference store. name: what answers call the store."""

    name: str
    snapshot: Snapshot
    side: ModelLayer


def open_named(references: Mapping[str, str]) -> dict[str, Snapshot]:
    """The references that a store's owner names, opened. Raises: InvalidQuery, StoreNotFound, …"""
    return {name: _newest(uri) for name, uri in references.items()}


def reference_model(snapshot: Snapshot, reference: str, model: str | None) -> ReferenceModel:
    """A layer of a model that the store and a reference have both embedded with.

    model: by default the store's first that the reference has too.

    Raises: InvalidQuery, StoreNotFound, StoreUnreachable, ModelNotFound, LayerNotFound;
    CheckpointMismatch where the embeddings cannot be compared.
    """
    other = opened(snapshot, reference)
    name = f"{reference}@{other.id}"
    if model is None:
        model = next((one for one in snapshot.models if one in other.models), None)
    side = lookup.model_layer(snapshot, model)
    try:
        lookup.model_layer(other, str(side))
    except (ModelNotFound, LayerNotFound) as error:
        kinds = {table.model for table in other.tables if table.space is None}
        sides = sorted({str(ModelLayer(t.model, t.layer)) for t in other.tables if not t.space})
        raise type(error)(
            f"the reference {reference} has no embeddings by {side} (it has {', '.join(sides)})",
            "ask for one that both have" if kinds else "ingest into it",
        ) from None
    _require_same(snapshot, other, side, reference)
    return ReferenceModel(name, other, side)


def opened(snapshot: Snapshot, reference: str) -> Snapshot:
    """A reference's newest state, or the one that its owner opened.

    Raises: StoreNotFound, StoreUnreachable; InvalidQuery for what is no name where only names are.
    """
    if reference in snapshot.references:
        return snapshot.references[reference]
    if files_are_allowed():
        return _newest(reference)
    known = ", ".join(snapshot.references) or "none"
    raise InvalidQuery(
        f"{reference[:100]!r} is no reference that the owner of this store has named "
        f"(there are: {known})",
        "its owner names references when the store is opened or served",
    )


def _newest(uri: str) -> Snapshot:
    location = locate(uri)
    with _lock:
        reader = _readers.setdefault(location.uri, Reader(location))
        _readers.move_to_end(location.uri)
        while len(_readers) > _OPEN:
            _readers.popitem(last=False)
    try:
        return reader.snapshot()
    except PlatonicError as error:
        raise type(error)(f"the reference: {error}", "check its path or URL") from None


def _require_same(one: Snapshot, other: Snapshot, side: ModelLayer, reference: str) -> None:
    """Raises: CheckpointMismatch, saying in what the two stores' embeddings differ."""
    ours, theirs = (_identity(snapshot, side) for snapshot in (one, other))
    for what, a in ours.items():
        b = theirs[what]
        if a != b and None not in (a, b):
            raise CheckpointMismatch(
                f"{side} is not the same in the reference {reference}: {what} is {_short(b)} there "
                f"and {_short(a)} here, so that distances would mean nothing",
                "make the reference with the same version of the model",
            )


def _identity(snapshot: Snapshot, side: ModelLayer) -> dict[str, object]:
    """What a store's embeddings by a layer were made with; None for what is not known."""
    ((weights,),) = snapshot.rows(
        "SELECT checkpoint_sha256 FROM catalog.main.models WHERE name = ?", [side.model]
    )
    fields = ", ".join(f"identity->>'{name}'" for name in _SAME)
    runs = snapshot.rows(
        f"SELECT {fields} FROM catalog.main.runs WHERE model = ? AND list_contains(layers, ?) "
        "ORDER BY started_at DESC LIMIT 1",
        list(side),
    )
    values = runs[0] if runs else [None] * len(_SAME)
    dim = lookup.vector_table(snapshot, side, "atom").dim
    return {"sha256 of the weights": weights, "dim": dim, **dict(zip(_SAME, values, strict=True))}


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) > 20 else text
