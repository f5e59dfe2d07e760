"""The columns of an annotation: their names, and what is said of each structure of a store."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from platonic_store.annotation.store_data import COMMITTEE, Rows, StoreData, Vectors, common
from platonic_store.annotation.targets import PREFIX, Columns, Kind
from platonic_store.errors import Call, InvalidQuery
from platonic_store.geometry.clusters import mode_clusters, near_duplicate_groups
from platonic_store.geometry.neighbours import nearest_others, unit_rows
from platonic_store.questions.coverage import coverage
from platonic_store.questions.shared.duplicates import combined_means
from platonic_store.storage.snapshot import ModelLayer, Snapshot

FIRST = "first"  # of a structure's group of near duplicates


class NeighbourTable(NamedTuple):
    """The k nearest others of n structures: (n, k) rows of them, and distances, nearest first.

    Rows are -1 and distances NaN for structures without a vector.
    """

    rows: Rows
    distances: NDArray[np.float64]


class Answers(NamedTuple):
    """One row a structure (the index of `table` is its id), and its neighbours by column prefix."""

    table: pd.DataFrame
    neighbours: dict[str, NeighbourTable]


def columns_of(layers: list[ModelLayer], *, with_reference: bool = False) -> Columns:
    """The names and kinds of what is written: by all models together, then by each of several."""
    columns: dict[str, Kind] = {
        f"{PREFIX}id": "text",
        **_neighbour_columns(PREFIX),
        f"{PREFIX}duplicate_of": "text",
        f"{PREFIX}cluster": "text",
        f"{PREFIX}disagreement": "number",
        **{f"{PREFIX}committee_{name}": "number" for name in COMMITTEE[:-1]},
        f"{PREFIX}committee_apart": "text",
        f"{PREFIX}class": "text",
        f"{PREFIX}rule": "text",
        f"{PREFIX}order": "number",
    }
    for prefix in prefixes(layers).values():
        columns |= {**_neighbour_columns(prefix), f"{prefix}atypicality": "number"}
    if with_reference:
        for prefix in prefixes(layers).values() or [PREFIX]:
            columns |= {
                f"{prefix}coverage_p": "number",
                f"{prefix}coverage_distance": "number",
                f"{prefix}covered_by": "text",
            }
        columns[f"{PREFIX}lacks"] = "text"
    return columns | {f"{PREFIX}reason": "text", f"{PREFIX}run": "text"}


def _neighbour_columns(prefix: str) -> dict[str, Kind]:
    return {
        f"{prefix}nearest": "text",
        f"{prefix}distance": "number",
        f"{prefix}neighbours": "neighbours",
        f"{prefix}atypicality_p": "number",
    }


def prefixes(layers: list[ModelLayer]) -> dict[ModelLayer, str]:
    """The prefix of the names of each model's own columns; none for a single model.

    Raises: InvalidQuery if two models would share a prefix.
    """
    if len(layers) < 2:
        return {}
    models = [layer.model for layer in layers]
    full = {
        one: one.model if models.count(one.model) == 1 else f"{one.model} {one.layer}"
        for one in layers
    }
    names = {one: re.sub(r"[^a-z0-9]+", "_", text.lower()) for one, text in full.items()}
    if len(set(names.values())) < len(layers):
        raise InvalidQuery(
            f"{', '.join(map(str, layers))} would share names of columns",
            "annotate by one of them at a time",
        )
    return {one: f"{PREFIX}{name}_" for one, name in names.items()}


def covered(snapshot: Snapshot, layers: list[ModelLayer], reference: str) -> pd.DataFrame:
    """Whether a reference store covers each structure, by each of the models; the index is its id.

    `attrs["reference"]` names the reference's state. Raises: as `coverage`.
    """
    table, names = pd.DataFrame(), []
    for layer in layers:
        rows = coverage(snapshot, reference=reference, model=str(layer)).set_index("structure_id")
        prefix = prefixes(layers).get(layer, PREFIX)
        mine = rows[["p", "distance", "nearest_id"]]
        mine.columns = [
            f"{prefix}{name}" for name in ("coverage_p", "coverage_distance", "covered_by")
        ]
        table = table.join(mine, how="outer")
        lacks = rows["lacks"].map(lambda some: ", ".join(some) or None)
        table[f"{PREFIX}lacks"] = lacks.combine_first(table.get(f"{PREFIX}lacks", lacks))
        names += rows["reference"].head(1).tolist()
    table.attrs["reference"] = sorted(set(names))
    return table


def compute(
    data: StoreData, *, k: int, within: float, covered: pd.DataFrame | None = None
) -> Answers:
    """Neighbours, near duplicates and clusters of every structure; and what covers it, if known.

    By several models together a distance is the mean of their cosine distances. Duplicates have one
    reduced formula and lie `within`, as `near_duplicates` measures it; see `geometry.clusters` for
    both kinds of groups.

    Raises: InvalidQuery if fewer than two structures are embedded.
    """
    ids = data.ids
    table = pd.DataFrame(index=pd.Index(ids))
    rows, vectors = _joint_vectors(data)
    near = _nearest(rows, vectors, k)
    neighbours = {PREFIX: _spread(rows, near, len(ids))}
    formulas = pd.factorize(data.formulas[rows])[0]
    groups = near_duplicate_groups(*_by_element(data, ids[rows], formulas, within))
    table.loc[ids[rows], FIRST] = ids[rows[groups]]
    table.loc[ids[rows], f"{PREFIX}cluster"] = ids[rows[mode_clusters(*near)]]
    for layer, prefix in prefixes(list(data.vectors)).items():
        own, vectors = data.vectors[layer]
        neighbours[prefix] = _spread(own, _nearest(own, vectors, k), len(ids))
        table[f"{prefix}atypicality"] = data.scores[layer]["atypicality"]
        table[f"{prefix}atypicality_p"] = data.scores[layer]["p"]
    table[f"{PREFIX}atypicality_p"] = data.consensus["p"]
    table[f"{PREFIX}disagreement"] = data.consensus["disagreement"]
    for name in COMMITTEE:
        table[f"{PREFIX}committee_{name}"] = data.committee[name]
    if covered is not None:
        table = table.join(covered)
    table[f"{PREFIX}reason"] = _reasons(data)
    return Answers(table, neighbours)


def _joint_vectors(data: StoreData) -> tuple[Rows, Vectors]:
    """Rows that all models have, and vectors whose cosine is the mean of the models' cosines."""
    rows = common(data)
    parts = [vectors[np.searchsorted(own, rows)] for own, vectors in data.vectors.values()]
    return rows, np.hstack([unit_rows(part) for part in parts])


def _by_element(
    data: StoreData, ids: NDArray[np.object_], formulas: Rows, within: float
) -> tuple[Vectors, Rows, float]:
    """What `near_duplicate_groups` takes: `within` is of the mean of the models' distances, each in
    the model's mean between two atoms of one element."""
    parts = [
        known.vectors[np.searchsorted(known.ids, ids.astype(str))]
        for known in data.by_element.values()
    ]
    seen = combined_means(parts, [known.spread for known in data.by_element.values()])
    return seen.vectors, formulas, seen.within(within)


def _nearest(rows: Rows, vectors: Vectors, k: int) -> NeighbourTable:
    """The k nearest others of each of the vectors, as rows among these."""
    if len(rows) < 2:
        raise InvalidQuery(
            f"neighbours need at least 2 embedded structures, not {len(rows)}",
            Call("ingest", "SOURCE", models=["MODEL"]),
        )
    return NeighbourTable(*nearest_others(vectors, k))


def _spread(rows: Rows, near: NeighbourTable, n: int) -> NeighbourTable:
    """A table of neighbours among `rows`, as one of all n structures."""
    k = near.rows.shape[1]
    table = NeighbourTable(np.full((n, k), -1, dtype=np.int64), np.full((n, k), np.nan))
    table.rows[rows], table.distances[rows] = rows[near.rows], near.distances
    return table


def _reasons(data: StoreData) -> NDArray[np.object_]:
    """Why a structure lacks columns: the first model that has not embedded it."""
    ids = data.ids
    reasons = np.full(len(ids), None, dtype=object)
    for layer, (rows, _) in reversed(data.vectors.items()):
        for row in np.setdiff1d(np.arange(len(ids)), rows):
            known = data.rejected.get((ids[row], layer.model))
            reasons[row] = known or f"{layer.model} has not embedded {ids[row]}"
    return reasons


def format_rows(answers: Answers, ids: Sequence[str]) -> list[dict[str, Any]]:
    """The columns of some structures, as written: None where there is no answer.

    Raises: KeyError for an id that is not in the answers.
    """
    table, neighbours = answers
    plain = table.loc[list(ids)].astype(object)
    places = table.index.get_indexer(pd.Index(ids))
    rows: list[dict[str, Any]] = [
        dict(zip(table.columns, row, strict=True))
        for row in plain.where(plain.notna(), None).itertuples(index=False, name=None)
    ]
    names = table.index.to_numpy()
    for prefix, near in neighbours.items():
        found = zip(rows, near.rows[places], near.distances[places], strict=True)
        for row, near_rows, distances in found:
            some = near_rows >= 0
            pairs = zip(names[near_rows[some]].tolist(), distances[some].tolist(), strict=True)
            others = [{"id": id, "distance": distance} for id, distance in pairs]
            row[f"{prefix}neighbours"] = others or None
            row[f"{prefix}nearest"] = others[0]["id"] if others else None
            row[f"{prefix}distance"] = others[0]["distance"] if others else None
    return rows
