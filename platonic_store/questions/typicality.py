"""Typicality: which crystals, and which of their atoms, lie where a model has seen little else."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from ase.data import chemical_symbols

from platonic_store.errors import InvalidQuery
from platonic_store.geometry.pooling import mean_by_structure
from platonic_store.questions.shared import inputs, references
from platonic_store.questions.shared.references import Judged, Reference
from platonic_store.storage.snapshot import Snapshot, VectorTable
from platonic_store.storage.vectors import Level, Points

CAVEAT = (
    "typicality is not confidence: the score says how unlike other compositions an environment "
    "looks to the model, not how wrong the model is"
)
_VIEWS = {"structure": "typicality", "atom": "atom_typicality"}


class Waiting(NamedTuple):
    """Structures to be judged, gathered so that no snapshot is held meanwhile.

    done: what the store knows of them already, as rows of the view. todo: the rest.
    calibrate: what the reference is calibrated on, if it is new, and under which name it is kept.
    """

    done: pd.DataFrame
    todo: Judged | None = None
    reference: Reference | None = None
    calibrate: tuple[Judged, tuple[str, str]] | None = None


def gather(
    snapshot: Snapshot,
    query: Any = None,
    *,
    model: str | None = None,
    layer: int | None = None,
    level: Level = "structure",
) -> Waiting:
    """What is known of the typicality of some structures, and what is needed to know the rest.

    query: an id, a list of ids, a `ExternalStructure`, or None for all that the model has embedded.

    Raises: StructureNotFound, NotEmbedded, ModelNotFound, LayerNotFound, InvalidQuery.
    """
    if level not in _VIEWS:
        raise InvalidQuery(f"no level {level!r}: choose one of {', '.join(_VIEWS)}")
    model = snapshot.model(model)
    layer = snapshot.layer(model, layer)
    ids = _embedded(snapshot, model, layer) if query is None else query
    if isinstance(ids, str):
        ids = [ids]
    done = _done(
        snapshot, model, layer, [] if isinstance(ids, inputs.ExternalStructure) else ids, level
    )
    if isinstance(ids, inputs.ExternalStructure):
        return _with_reference(snapshot, model, layer, done, ids)
    known = set(done["id"])
    rest = [id_ for id_ in dict.fromkeys(ids) if id_ not in known]
    if not rest:
        return Waiting(done)
    if query is not None:
        for id_ in rest:
            snapshot.require_structure(id_)
            inputs.resolve(snapshot, id_, model, layer, None, "structure", None)
    return _with_reference(snapshot, model, layer, done, rest)


def judge(waiting: Waiting, level: Level = "structure") -> pd.DataFrame:
    """The rows of the view `typicality` (or `atom_typicality`) of what was gathered.

    Raises: InvalidQuery if the reference has too few other compositions.
    """
    reference, todo = waiting.reference, waiting.todo
    if reference is None or todo is None:
        return waiting.done
    if waiting.calibrate is not None:
        these, key = waiting.calibrate
        reference = references.keep(key, references.calibrated(reference, these))
    found = references.scores(reference, todo)
    rows = found.structures if level == "structure" else found.atoms
    rows = rows.rename(columns={"structure_id": "id"}).assign(
        model=reference.model, layer=reference.layer, reference=reference.id
    )
    rows["element"] = np.array(chemical_symbols)[rows["atomic_number"]]
    rows = rows[list(waiting.done.columns)]
    return pd.concat([waiting.done, rows], ignore_index=True) if len(waiting.done) else rows


def outliers(rows: pd.DataFrame, k: int = 20) -> pd.DataFrame:
    """Of what `judge` judged the k least typical, with their rank first."""
    if k < 1:
        raise InvalidQuery(f"k must be at least 1, not {k}")
    keys = [name for name in ("id", "site_index") if name in rows]
    worst = rows.sort_values(["atypicality", *keys], ascending=[False] + [True] * len(keys))
    worst = worst.head(k).reset_index(drop=True)
    telling = ["atypicality", "p", "id", "site_index", "element", "nearest_id", "nearest_site"]
    rest = [name for name in worst if name not in telling]
    worst = worst[telling + rest]
    worst.insert(0, "rank", np.arange(1, len(worst) + 1))
    return worst


def disagreement(snapshot: Snapshot, k: int = 20) -> pd.DataFrame:
    """The k rows of the view `disagreement` on which the models agree least, with rank first.

    Raises: InvalidQuery if fewer than two models have judged the store.
    """
    if k < 1:
        raise InvalidQuery(f"k must be at least 1, not {k}")
    rows = snapshot.frame(
        "SELECT row_number() OVER (ORDER BY disagreement DESC NULLS LAST, id) AS rank, * "
        "FROM disagreement ORDER BY rank LIMIT ?",
        [k],
    )
    if rows.empty:
        raise InvalidQuery(
            "no two models have judged the same structures: run `platonic-store score`"
        )
    return rows


def described(snapshot: Snapshot, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with the columns of the `structure` view; those of structures that are gone left out."""
    known = snapshot.describe(rows["id"].unique().tolist())
    return rows.merge(known, on="id", validate="many_to_one", suffixes=("", "_of_source"))


def _embedded(snapshot: Snapshot, model: str, layer: int) -> list[str]:
    table = snapshot.embeddings(model, layer, "structure")
    return [
        id_
        for (id_,) in snapshot.rows(
            "SELECT c.structure_id FROM catalog.main.table_appends AS f "
            "JOIN catalog.main.chunk_structures AS c USING (chunk_id) "
            "WHERE f.table_name = ? AND f.committed ORDER BY ALL",
            [table.name],
        )
    ]


def _done(
    snapshot: Snapshot, model: str, layer: int, ids: Sequence[str], level: Level
) -> pd.DataFrame:
    return snapshot.frame(
        f"FROM {_VIEWS[level]} WHERE model = ? AND layer = ? AND id IN (SELECT unnest(?)) "
        "ORDER BY id, site_index",
        [model, layer, list(ids)],
    )


def _with_reference(
    snapshot: Snapshot,
    model: str,
    layer: int,
    done: pd.DataFrame,
    asked_for: list[str] | inputs.ExternalStructure,
) -> Waiting:
    """What has to be judged, and the reference: the store's, or one of what the store holds now."""
    reference, these, calibrate = references.stored(snapshot, model, layer), None, None
    if reference is None:
        tables = _tables(snapshot, model, layer)
        key = str(snapshot.vectors.folder), str([(t.name, t.version) for t in tables])
        reference = references.kept(key)
        if reference is None:
            reference, these = references.new(snapshot, model, layer)
            calibrate = these, key
    if isinstance(asked_for, inputs.ExternalStructure):
        todo = _newcomer(asked_for, reference.seed)
    elif len(asked_for) == 1:
        todo = _one(snapshot, model, layer, asked_for[0], reference.seed)
    else:
        these = these or references.seen(snapshot, model, layer, reference.seed)
        todo = references.chosen(these, np.array(asked_for, dtype=object))
    return Waiting(done, todo, reference, calibrate)


def _tables(snapshot: Snapshot, model: str, layer: int) -> tuple[VectorTable, VectorTable]:
    return (
        snapshot.embeddings(model, layer, "structure"),
        snapshot.embeddings(model, layer, "atom"),
    )


def _one(snapshot: Snapshot, model: str, layer: int, id_: str, seed: int) -> Judged:
    whole, atoms = (snapshot.of_structure(t, id_) for t in _tables(snapshot, model, layer))
    ((formula,),) = snapshot.rows("SELECT formula FROM catalog.main.structures WHERE id = ?", [id_])
    return references.judged(whole, atoms, {id_: references.composition(formula, seed)})


def _newcomer(query: inputs.ExternalStructure, seed: int) -> Judged:
    n = len(query.atoms)
    name = pa.array(["query"])
    mean = mean_by_structure(query.atoms, np.zeros(n, dtype=int))
    sites = pa.table(
        {
            "structure_id": pa.array(["query"] * n),
            "site_index": pa.array(range(n), pa.int32()),
            "atomic_number": pa.array(query.numbers, pa.int16()),
            "orbit": pa.array(range(n), pa.int32()),
        }
    )
    group = references.composition(query.formula, seed)
    return references.judged(
        Points(pa.table({"structure_id": name}), mean), Points(sites, query.atoms), {"query": group}
    )
