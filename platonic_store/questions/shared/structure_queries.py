"""The structures that a query names, embedded: those of the store, or a file's, in one go."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from platonic_store import progress
from platonic_store.arrow import vector_matrix
from platonic_store.errors import (
    InvalidQuery,
    UnreadableSource,
)
from platonic_store.questions.shared.declaration import StructuresMark
from platonic_store.questions.shared.inputs import (
    NotYetEmbedded,
    UploadedStructures,
    is_file,
    uploads_of,
)
from platonic_store.questions.shared.running import pool_of
from platonic_store.questions.shared.structure_sets import StructureSet
from platonic_store.storage import lookup
from platonic_store.storage.layout import Points
from platonic_store.storage.snapshot import ModelLayer, Snapshot

StructuresQuery = Annotated[
    Any,
    'Structures: a file, ids (with commas), an SQL condition such as "band_gap > 1", or in Python '
    "objects or a list of ids.",
    StructuresMark(),
]


def structure_set(snapshot: Snapshot, query: Any, sides: Sequence[ModelLayer]) -> StructureSet:
    """The structures that a query names, as each of the models embeds them.

    A text is, in this order: what a service keeps, an id, a file, ids with commas between, an SQL
    condition on the view `structure`. What a file holds is embedded now.

    Raises: StructureNotFound, InvalidQuery if there are none; UnreadableSource, CheckpointMismatch
    and what running a model raises.
    """
    sides = list(dict.fromkeys(one for side in sides for one in side.layers))
    if isinstance(query, str):
        if uploads := uploads_of(query):
            return _of_uploads(snapshot, uploads, query, sides)
        if not snapshot.has_structure(query) and is_file(query):
            return _embedded_now(snapshot, query, sides)
        return _of_store(snapshot, _named(snapshot, query), sides)
    if isinstance(query, list | tuple | np.ndarray | pd.Series) and all(
        isinstance(one, str) for one in query
    ):
        ids = [str(one) for one in query]
        for id in ids:
            lookup.require_structure(snapshot, id)
        return _of_store(snapshot, ids, sides)
    return _embedded_now(snapshot, query, sides)


def _named(snapshot: Snapshot, text: str) -> list[str]:
    """The ids that a text names, one by one or by a condition."""
    ids = [part.strip() for part in text.split(",")]
    if all(snapshot.has_structure(id) for id in ids):
        return ids
    is_word = re.fullmatch(r"[\w.:/\\-]+", text) is not None
    if is_word and text[0].isdigit():  # to SQL a number is true of everything
        raise lookup.no_structure(snapshot, text)
    try:
        found = lookup.matching(snapshot, text, "structure")["structure_id"]
    except InvalidQuery as error:
        if is_word:
            raise lookup.no_structure(snapshot, text) from None
        missing = next(id for id in ids if not snapshot.has_structure(id))
        raise InvalidQuery(
            f"{text!r} is no file, it names no structures ({missing!r} is none), and: {error}"
        ) from None
    if found.empty:
        raise InvalidQuery(f"no structure meets {text!r}")
    return sorted(found)


def _of_store(snapshot: Snapshot, ids: list[str], sides: Sequence[ModelLayer]) -> StructureSet:
    """Structures of the store, by id; those that a model has not embedded are rejected."""
    ids = sorted(set(ids))
    said = {
        (id, model): reason
        for id, model, reason in snapshot.rows(
            "SELECT structure_id, model, reason FROM catalog.main.quarantined "
            "WHERE model IS NOT NULL"
        )
    }
    reasons: dict[str, str] = {}
    for side in sides:
        table = lookup.vector_table(snapshot, side, "structure")
        known = set(snapshot.points(table).column("structure_id").tolist())
        for id in ids:
            if id not in known:
                why = said.get((id, side.model), f"{side} has not embedded it")
                reasons.setdefault(id, why)
    kept = [id for id in ids if id not in reasons]
    if not kept:
        raise InvalidQuery(f"none of the {len(ids)} structures is embedded: {reasons[ids[0]]}")
    return StructureSet(snapshot, kept, kept, list(reasons.items()))


def _of_uploads(
    snapshot: Snapshot, uploads: UploadedStructures, query: str, sides: Sequence[ModelLayer]
) -> StructureSet:
    """What a service keeps. Raises: NotYetEmbedded, while a model is at work on one of them."""
    batch = uploads.batch(query)
    found: dict[ModelLayer, dict[str, np.ndarray]] = {side: {} for side in sides}
    reasons: dict[str, str] = {}
    waiting: NotYetEmbedded | None = None
    keepers = batch.structures["id"].to_pylist()
    table = _numbered(batch.structures)
    for id, keeper in zip(table["id"].to_pylist(), keepers, strict=True):
        for side in sides:
            try:
                found[side][id] = uploads.embedded(keeper, side).atoms
            except NotYetEmbedded as error:  # the models begin on all of them before one waits
                waiting = error
            except UnreadableSource as error:
                reasons.setdefault(id, f"{side.model}: {error}")
    if waiting is not None:
        raise waiting
    return _gathered(snapshot, query, batch.names, table, found, batch.rejected, reasons)


def _embedded_now(snapshot: Snapshot, source: Any, sides: Sequence[ModelLayer]) -> StructureSet:
    """A file's, or objects', structures: read once, then embedded by each model in turn."""
    from platonic_store.structures import describe, read

    rejected: list[tuple[str, str]] = []
    batches = []
    with progress.counting(f"reading {Path(describe(source)).name}", "structures") as advance:
        for batch in read(source, batch_size=2048):
            batches.append(batch.structures)
            rejected += [(one.id or one.record, one.reason) for one in batch.rejected]
            advance(len(batch.structures))
    table = pa.Table.from_batches(batches)
    if not len(table):
        raise UnreadableSource(
            f"nothing in {describe(source)} can be embedded"
            + (f"; {rejected[0][0]}: {rejected[0][1]}" if rejected else "")
        )
    names = table["id"].to_pylist()
    table = _numbered(table)
    reasons: dict[str, str] = {}
    found: dict[ModelLayer, dict[str, np.ndarray]] = {}
    for model in dict.fromkeys(side.model for side in sides):
        layers = tuple(sorted({side.layer for side in sides if side.model == model}))
        found |= _run(snapshot, model, layers, table, reasons)
    return _gathered(snapshot, describe(source), names, table, found, rejected, reasons)


def _numbered(structures: pa.Table) -> pa.Table:
    """With ids that nothing in a store has: their own may be those of other structures there."""
    ids = [f"candidate {number:08d}" for number in range(len(structures))]
    place = structures.schema.get_field_index("id")
    columns = ["id", "formula", "spacegroup", "numbers", "positions", "cell", "pbc", "orbits"]
    return structures.set_column(place, "id", pa.array(ids, pa.string())).select(columns)


def _gathered(
    snapshot: Snapshot,
    source: str,
    names: Sequence[str],
    structures: pa.Table,
    found: dict[ModelLayer, dict[str, np.ndarray]],
    rejected: list[tuple[str, str]],
    reasons: dict[str, str],
) -> StructureSet:
    """What every model has embedded; the rest is rejected. Raises: UnreadableSource."""
    crystals = structures.to_pandas()
    unique = np.array(_unique(list(names)), dtype=object)
    kept = ~crystals["id"].isin(list(reasons)).to_numpy()
    called = dict(zip(crystals["id"], unique, strict=True))
    rejected = [*rejected, *((called[id], reason) for id, reason in reasons.items())]
    if not kept.any():
        raise UnreadableSource(f"nothing in {source} can be embedded; {rejected[0][1]}")
    crystals = crystals[kept].reset_index(drop=True)
    keys = _keys(crystals)
    atoms = {
        side: Points(keys, np.concatenate([rows[id] for id in crystals["id"]]))
        for side, rows in found.items()
    }
    ids = crystals["id"].tolist()
    return StructureSet(snapshot, unique[kept].tolist(), ids, rejected, crystals, atoms)


def _run(
    snapshot: Snapshot,
    model: str,
    layers: tuple[int, ...],
    structures: pa.Table,
    reasons: dict[str, str],
) -> dict[ModelLayer, dict[str, np.ndarray]]:
    """A model's layers of each structure, by id; why it rejects others goes into `reasons`.

    Raises: CheckpointMismatch, and what running a model raises.
    """
    found: dict[ModelLayer, dict[str, np.ndarray]] = {ModelLayer(model, one): {} for one in layers}
    todo = structures.select(["id", "numbers", "positions", "cell", "pbc"])
    total = int(sum(map(len, todo["numbers"].to_pylist())))
    with (
        pool_of(snapshot, model, layers) as pool,
        progress.bar(f"embedding with {model}", total, "atoms") as advance,
    ):
        for answer in pool.embed(todo.to_batches()):
            for id, reason in answer.rejected:
                reasons.setdefault(id, f"{model}: {reason}")
            ids = answer.table["id"].to_numpy(zero_copy_only=False)
            starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]][: len(ids)])
            for side, rows in found.items():
                vectors = vector_matrix(answer.table[f"layer_{side.layer}"])
                rows |= dict(zip(ids[starts], np.split(vectors, starts[1:]), strict=True))
            advance(len(ids))
    return found


def _keys(crystals: pd.DataFrame) -> pa.Table:
    """The keys of the atoms of some crystals, in their order."""
    counts = crystals["numbers"].map(len)
    return pa.table(
        {
            "structure_id": pa.array(np.repeat(crystals["id"].to_numpy(), counts), pa.string()),
            "site_index": pa.array(np.concatenate([np.arange(n) for n in counts]), pa.int32()),
            "atomic_number": pa.array(np.concatenate(crystals["numbers"].tolist()), pa.int16()),
            "orbit": pa.array(np.concatenate(crystals["orbits"].tolist()), pa.int32()),
        }
    )


def _unique(names: list[str]) -> list[str]:
    """The names, those that come again with a number behind."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def trained_sides(snapshot: Snapshot, models: Sequence[str] | None) -> list[ModelLayer]:
    """The models named, by default the store's trained ones, each at one layer.

    Raises: ModelNotFound, LayerNotFound, InvalidQuery.
    """
    named = models or snapshot.trained_models or list(snapshot.models) or [""]
    sides = [lookup.model_layer(snapshot, name) for name in named]
    if len(set(sides)) < len(sides):
        raise InvalidQuery(f"{', '.join(map(str, sides))} holds one twice")
    return sides
