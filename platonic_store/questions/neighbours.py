"""Neighbours: the nearest of every structure, or of every atom, in one go."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from platonic_store import progress
from platonic_store.errors import InvalidQuery
from platonic_store.geometry.neighbours import nearest
from platonic_store.questions.similar import meeting
from platonic_store.storage.snapshot import Snapshot, VectorTable
from platonic_store.storage.vectors import Level, Points

BLOCK = 4_096  # of those that ask, compared with all candidates at once


class Sides(NamedTuple):
    """Who asks and who may answer.

    keys_…: structure_id (and site_index, for atoms), row for row with the (n, dim) vectors_….
    """

    keys_asking: pd.DataFrame
    vectors_asking: np.ndarray
    keys_answering: pd.DataFrame
    vectors_answering: np.ndarray
    is_one_model: bool


def neighbours(snapshot: Snapshot, *, k: int = 5, **arguments) -> pd.DataFrame:
    """The k nearest of each: see `gather` for the arguments and `compute` for the frame."""
    return compute(gather(snapshot, **arguments), k)


def gather(
    snapshot: Snapshot,
    *,
    model: str | None = None,
    layer: int | None = None,
    across: str | None = None,
    space: str | None = None,
    level: Level = "structure",
    where: str | None = None,
) -> Sides:
    """What `compute` compares, read whole.

    Every structure (or atom, one for each set of symmetry-equivalent sites) that `model` has
    embedded asks; those of `across` (by default of the same model) that meet the condition
    `where` answer. With `across` or `space` both are seen in the shared space.

    Raises: ModelNotFound, LayerNotFound, AnchorsNotFound; InvalidQuery for a condition that is not
    understood or that nothing meets.
    """
    if level not in ("atom", "structure"):
        raise InvalidQuery(f"unknown level {level!r}, choose one of atom, structure")
    model = snapshot.model(model)
    layer = snapshot.layer(model, layer)
    answerer = snapshot.model(across) if across else model
    if across is None and space is None:
        asking = answering = snapshot.embeddings(model, layer, level)
    else:
        space = snapshot.space(space, [model, answerer])
        asking = snapshot.coordinates(space, model, layer, level)
        answering = snapshot.coordinates(space, answerer, None if across else layer, level)
    points = snapshot.points(answering)
    mask = points.is_distinct
    if where is not None:
        mask = mask & meeting(snapshot, points, level, where)
    if not mask.any():
        raise InvalidQuery(f"{answering.name} has no rows" + (f" where {where}" if where else ""))
    asked = _rows(asking, snapshot.points(asking), None)
    return Sides(*asked, *_rows(answering, points, mask), across is None)


def _rows(
    table: VectorTable, points: Points, mask: np.ndarray | None
) -> tuple[pd.DataFrame, np.ndarray]:
    names = ["structure_id", "site_index"] if table.level == "atom" else ["structure_id"]
    mask = points.is_distinct if mask is None else mask
    if mask.all():
        return points.keys.select(names).to_pandas(), points.vectors
    return points.keys.select(names).filter(mask).to_pandas(), points.vectors[mask]


def compute(sides: Sides, k: int = 5) -> pd.DataFrame:
    """The k nearest answers to each row that asks, exactly; within a model never itself.

    The frame has id, site_index (for atoms), rank, neighbour, neighbour_site (for atoms) and
    distance (1 − cosine); ordered by id, site_index and rank. Each block of 4,096 rows is compared
    with all candidates: time grows with the product of the two, memory with k times the first.

    Raises: InvalidQuery if k < 1.
    """
    if k < 1:
        raise InvalidQuery(f"k must be at least 1, not {k}")
    asking, answering = sides.keys_asking, sides.keys_answering
    own = _own_rows(asking, answering) if sides.is_one_model else np.full(len(asking), -1)
    parts = []
    with progress.bar("nearest neighbours", len(asking), "rows") as advance:
        for start in range(0, len(asking), BLOCK):
            block = slice(start, start + BLOCK)
            near = nearest(sides.vectors_asking[block], sides.vectors_answering, k + 1)
            parts.append(_others(*near, own[block], start, k))
            advance(len(near[0]))
    asker, found, rank, distance = (np.concatenate(column) for column in zip(*parts, strict=True))
    frame = asking.iloc[asker].reset_index(drop=True)
    frame["rank"] = rank
    frame["neighbour"] = answering["structure_id"].to_numpy()[found]
    if "site_index" in answering:
        frame["neighbour_site"] = answering["site_index"].to_numpy()[found]
    frame["distance"] = distance
    keys = [*asking.columns, "rank"]
    return frame.sort_values(keys, ignore_index=True).rename(columns={"structure_id": "id"})


def _own_rows(asking: pd.DataFrame, answering: pd.DataFrame) -> np.ndarray:
    """(n,) where each row that asks lies among those that answer, or -1."""
    places = pd.MultiIndex.from_frame(answering)
    return np.asarray(places.get_indexer(pd.MultiIndex.from_frame(asking)))


def _others(
    index: np.ndarray, distance: np.ndarray, own: np.ndarray, start: int, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each row's k+1 nearest the first k that are not itself: asker, found, rank, distance."""
    is_other = index != own[:, None]
    rank = np.cumsum(is_other, axis=1)
    who, which = np.nonzero(is_other & (rank <= k))
    return who + start, index[who, which], rank[who, which], distance[who, which]
