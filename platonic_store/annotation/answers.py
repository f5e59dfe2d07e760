"""What the store says of each of its structures: the columns of an annotation."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from platonic_store.annotation.targets import PREFIX, Columns, Kind
from platonic_store.errors import InvalidQuery
from platonic_store.geometry.clusters import mode_clusters, near_duplicate_groups
from platonic_store.geometry.neighbours import nearest_others
from platonic_store.geometry.typicality import conformal_p
from platonic_store.storage.snapshot import ModelLayer, Snapshot

FIRST = "first"  # of a structure's group of near duplicates


class Gathered(NamedTuple):
    """What is read of the store.

    ids, formulas: (n,) of all structures, by id. vectors: of each model the rows of `ids` that it
    has embedded, ascending, and (rows, dim) float32. scores: of each model `atypicality` and `p`,
    and of several together `p` and `disagreement`, by id. refused: why not, by (id, model).
    """

    ids: np.ndarray
    formulas: np.ndarray
    vectors: dict[ModelLayer, tuple[np.ndarray, np.ndarray]]
    scores: dict[ModelLayer, pd.DataFrame]
    together: pd.DataFrame
    refused: dict[tuple[str, str], str]


class Around(NamedTuple):
    """The k nearest others of n structures: (n, k) rows of them, and distances, nearest first.

    Rows are -1 and distances NaN for structures that have no vector.
    """

    rows: np.ndarray
    distances: np.ndarray


class Answers(NamedTuple):
    """One row a structure (the index of `table` is its id), and its neighbours by column prefix."""

    table: pd.DataFrame
    around: dict[str, Around]


def columns_of(sides: list[ModelLayer]) -> Columns:
    """The names and kinds of what is written: by all models together, then by each of several."""
    columns: dict[str, Kind] = {
        f"{PREFIX}id": "text",
        **_surrounding(PREFIX),
        f"{PREFIX}duplicate_of": "text",
        f"{PREFIX}cluster": "text",
        f"{PREFIX}disagreement": "number",
    }
    for prefix in prefixes(sides).values():
        columns |= {**_surrounding(prefix), f"{prefix}atypicality": "number"}
    return columns | {f"{PREFIX}reason": "text", f"{PREFIX}run": "text"}


def _surrounding(prefix: str) -> dict[str, Kind]:
    return {
        f"{prefix}nearest": "text",
        f"{prefix}distance": "number",
        f"{prefix}neighbours": "neighbours",
        f"{prefix}atypicality_p": "number",
    }


def prefixes(sides: list[ModelLayer]) -> dict[ModelLayer, str]:
    """The beginning of the names of each model's own columns; none for a model that is alone."""
    if len(sides) < 2:
        return {}
    models = [side.model for side in sides]
    names = {
        side: re.sub(
            r"[^a-z0-9]+",
            "_",
            (side.model if models.count(side.model) == 1 else f"{side.model} {side.layer}").lower(),
        )
        for side in sides
    }
    if len(set(names.values())) < len(sides):
        raise InvalidQuery(
            f"{', '.join(map(str, sides))} would share names of columns: annotate them one by one"
        )
    return {side: f"{PREFIX}{name}_" for side, name in names.items()}


def gather(snapshot: Snapshot, sides: list[ModelLayer]) -> Gathered:
    """Read what `compute` needs, so that no snapshot is held meanwhile.

    Raises: LayerNotFound.
    """
    known = snapshot.frame("SELECT id, formula FROM catalog.main.structures ORDER BY id")
    ids = pd.Index(known["id"])
    vectors = {}
    for side in sides:
        points = snapshot.points(snapshot.embeddings(*side, "structure"))
        rows = ids.get_indexer(points.column("structure_id"))
        order = np.argsort(rows)
        vectors[side] = rows[order], points.vectors[order]
    scores = {
        side: snapshot.frame(
            "SELECT id, atypicality, p FROM typicality WHERE model = ? AND layer = ?", list(side)
        ).set_index("id")
        for side in sides
    }
    refused = snapshot.rows(
        "SELECT structure_id, model, reason FROM catalog.main.quarantined WHERE model IS NOT NULL"
    )
    return Gathered(
        ids.to_numpy(),
        known["formula"].to_numpy(),
        vectors,
        scores,
        _scores_together(snapshot, scores),
        {(id, model): reason for id, model, reason in refused},
    )


def _scores_together(snapshot: Snapshot, scores: dict[ModelLayer, pd.DataFrame]) -> pd.DataFrame:
    """`p` by all models, and `disagreement`, of the structures that all have judged.

    As in the view `disagreement`, but of these models alone: p is conformal for the mean of −ln p.
    """
    if len(scores) == 1:
        (only,) = scores.values()
        return only[["p"]].assign(disagreement=np.nan)
    ps = pd.concat([frame["p"] for frame in scores.values()], axis=1, join="inner")
    surprise = -np.log(ps).mean(axis=1)
    sides = [{"model": side.model, "layer": side.layer} for side in scores]
    calibrating = snapshot.rows(
        "SELECT structure_id FROM catalog.main.reference_structures AS m "
        "JOIN catalog.main.reference_sets AS r ON r.id = m.reference WHERE m.part = 'calibration' "
        "AND list_contains(?::STRUCT(model VARCHAR, layer INTEGER)[], "
        "{'model': r.model, 'layer': r.layer}) GROUP BY structure_id HAVING count(*) = ?",
        [sides, len(sides)],
    )
    calibrates = ps.index.isin([id for (id,) in calibrating])
    p = conformal_p(surprise, surprise[calibrates], calibrates) if calibrates.any() else np.nan
    disputed = snapshot.frame(
        "SELECT id, max(disagreement) AS disagreement FROM ("
        "SELECT id, site_index, 1 - avg(agreement) AS disagreement FROM atom_agreement "
        "WHERE list_contains($1, model) AND list_contains($1, other) GROUP BY ALL) GROUP BY id",
        [[side.model for side in scores]],
    )
    return pd.DataFrame({"p": p}, index=ps.index).join(disputed.set_index("id"))


def compute(gathered: Gathered, *, k: int, within: float) -> Answers:
    """Neighbours, near duplicates and clusters of every structure.

    Together, models see structures at the mean of their cosine distances. Duplicates have one
    reduced formula and lie `within`; see `geometry.clusters` for both kinds of groups.

    Raises: InvalidQuery where fewer than two structures are embedded.
    """
    ids = gathered.ids
    table = pd.DataFrame(index=pd.Index(ids))
    rows, vectors = _together(gathered)
    near = _nearest(rows, vectors, k)
    around = {PREFIX: _spread(rows, near, len(ids))}
    kinds = pd.factorize(gathered.formulas[rows])[0]
    table.loc[ids[rows], FIRST] = ids[rows[near_duplicate_groups(vectors, kinds, within)]]
    table.loc[ids[rows], f"{PREFIX}cluster"] = ids[rows[mode_clusters(*near)]]
    for side, prefix in prefixes(list(gathered.vectors)).items():
        own, vectors = gathered.vectors[side]
        around[prefix] = _spread(own, _nearest(own, vectors, k), len(ids))
        table[f"{prefix}atypicality"] = gathered.scores[side]["atypicality"]
        table[f"{prefix}atypicality_p"] = gathered.scores[side]["p"]
    table[f"{PREFIX}atypicality_p"] = gathered.together["p"]
    table[f"{PREFIX}disagreement"] = gathered.together["disagreement"]
    table[f"{PREFIX}reason"] = _reasons(gathered)
    return Answers(table, around)


def common(gathered: Gathered) -> np.ndarray:
    """The rows of the structures that all models have embedded, ascending."""
    first, *others = (rows for rows, _ in gathered.vectors.values())
    for rows in others:
        first = np.intersect1d(first, rows, assume_unique=True)
    return first


def _together(gathered: Gathered) -> tuple[np.ndarray, np.ndarray]:
    """Rows that all models have, and vectors whose cosine is the mean of the models' cosines."""
    rows = common(gathered)
    sides = gathered.vectors.values()
    parts = [vectors[np.searchsorted(own, rows)].astype(np.float64) for own, vectors in sides]
    lengths = [np.linalg.norm(part, axis=1, keepdims=True) for part in parts]
    units = [part / np.where(x > 0, x, 1) for part, x in zip(parts, lengths, strict=True)]
    return rows, np.hstack(units)


def _nearest(rows: np.ndarray, vectors: np.ndarray, k: int) -> Around:
    """The k nearest others of each of the vectors, by their place among these."""
    if len(rows) < 2:
        raise InvalidQuery(
            f"neighbours need at least two embedded structures, the store has {len(rows)}: "
            "ingest more"
        )
    return Around(*nearest_others(vectors, k))


def _spread(rows: np.ndarray, near: Around, n: int) -> Around:
    """What was found among `rows`, as rows of all n structures."""
    k = near.rows.shape[1]
    around = Around(np.full((n, k), -1, dtype=np.int32), np.full((n, k), np.nan))
    around.rows[rows], around.distances[rows] = rows[near.rows], near.distances
    return around


def _reasons(gathered: Gathered) -> np.ndarray:
    """Why a structure has not all columns: the first model that has not embedded it."""
    reasons = np.full(len(gathered.ids), None, dtype=object)
    for side, (rows, _) in reversed(gathered.vectors.items()):
        for row in np.setdiff1d(np.arange(len(reasons)), rows):
            known = gathered.refused.get((gathered.ids[row], side.model))
            reasons[row] = known or (
                f"{side.model} has not embedded {gathered.ids[row]}: "
                f"run `platonic-store ingest --model {side.model}`"
            )
    return reasons


def told(answers: Answers, ids: Sequence[str]) -> list[dict[str, Any]]:
    """The columns of some structures, as written: None where there is no answer."""
    table, around = answers
    places = table.index.get_indexer(pd.Index(ids))
    plain = table.iloc[places].astype(object)
    rows: list[dict[str, Any]] = [
        dict(zip(table.columns, row, strict=True))
        for row in plain.where(plain.notna(), None).itertuples(index=False, name=None)
    ]
    names = table.index.to_numpy()
    for prefix, near in around.items():
        found = zip(rows, near.rows[places], near.distances[places], strict=True)
        for row, near_rows, distances in found:
            some = near_rows >= 0
            pairs = zip(names[near_rows[some]].tolist(), distances[some].tolist(), strict=True)
            others = [{"id": id, "distance": distance} for id, distance in pairs]
            row[f"{prefix}neighbours"] = others or None
            row[f"{prefix}nearest"] = others[0]["id"] if others else None
            row[f"{prefix}distance"] = others[0]["distance"] if others else None
    return rows
