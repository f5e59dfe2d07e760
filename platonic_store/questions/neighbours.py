"""The nearest neighbours of every structure, or of every atom, in one go."""

import logging
from collections.abc import Iterator

import numpy as np
import pandas as pd

from platonic_store import progress
from platonic_store.errors import InvalidQuery
from platonic_store.geometry.cells import EXACT_PAIRS, cells_of, measured, nearest_by_cells
from platonic_store.geometry.neighbours import nearest
from platonic_store.questions.shared.declaration import Column, question
from platonic_store.questions.shared.nearest import rows_matching
from platonic_store.questions.shared.parameters import Across, K, Level, Model, Space, Where
from platonic_store.questions.shared.tables import between
from platonic_store.storage import lookup
from platonic_store.storage.layout import PRIMARY_KEY, Points
from platonic_store.storage.snapshot import Snapshot, VectorTable
from platonic_store.storage.watch import check_rows

_log = logging.getLogger(__name__)

BLOCK = 4_096  # queries compared with all candidates at once


@question(
    Column("structure_id", "string", "Whose neighbour it is."),
    Column("site_index", "int32", "Of which of its atoms.", kind="atom"),
    Column("rank", "int64", "1 is the nearest."),
    Column("neighbour", "string", "The structure that is near, or that holds the atom."),
    Column("neighbour_site", "int32", "The atom's site in it.", kind="atom"),
    Column("distance", "double", "1 − cosine; across models in the order of distance + hub / 2."),
)
def neighbours(
    snapshot: Snapshot,
    *,
    model: Model = None,
    across: Across = None,
    space: Space = None,
    k: K = 5,
    level: Level = "structure",
    where: Where = None,
) -> pd.DataFrame:
    """The k nearest of every structure (or atom, one for each set of equivalent sites).

    `where` is a condition on the neighbours; all have some. Within a model nothing is its own
    neighbour. Exact up to 50,000 rows; beyond, rows are compared with those of the cells around
    theirs, so many that recall is 0.99, as measured in the same call on a sample. Memory grows with
    k times the rows.

    Raises: ModelNotFound, LayerNotFound, AnchorsNotFound, InvalidQuery for a condition that is not
    understood or that nothing meets.
    """
    asking, answering, space = between(snapshot, model, across, space)
    table = lookup.vector_table(snapshot, answering, level, space)
    points = snapshot.points(table)
    mask = points.is_distinct
    if where is not None:
        mask = mask & rows_matching(snapshot, points, level, where)
    if not mask.any():
        raise InvalidQuery(f"{table.name} has no rows" + (f" where {where}" if where else ""))
    source = lookup.vector_table(snapshot, asking, level, space)
    queries, vectors = _rows(source, snapshot.points(source), None)
    check_rows(len(queries) * min(k, int(mask.sum())))
    candidates, candidate_vectors = _rows(table, points, mask)
    hubs = points.hubs[mask] if across and points.hubs is not None else None
    own = np.full(len(queries), -1) if across else _own_rows(queries, candidates)
    parts = []
    with progress.bar("nearest neighbours", len(queries), "rows") as advance:
        for rows, index, far in _nearest(vectors, candidate_vectors, k + 1, hubs):
            parts.append(_others(index, far, own[rows], rows, k))
            advance(len(rows))
    query, found, rank, distance = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((rank, _places(queries)[query]))
    query, found, rank, distance = query[order], found[order], rank[order], distance[order]
    frame = queries.iloc[query].reset_index(drop=True)
    frame["rank"] = rank
    frame["neighbour"] = candidates["structure_id"].to_numpy()[found]
    if level == "atom":
        frame["neighbour_site"] = candidates["site_index"].to_numpy()[found]
    frame["distance"] = distance
    return frame


def _nearest(
    queries: np.ndarray, points: np.ndarray, k: int, hubs: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows of the queries, and the k nearest points of each: exactly, or of very many by cells."""
    if len(queries) * len(points) > EXACT_PAIRS:
        cells = cells_of(queries, points)
        around, recall = measured(queries, points, k, cells, hubs)
        progress.note(f"recall@{k} {recall:.4f}")
        _log.info("recall@%d of neighbours is %.4f, by %d cells", k, recall, around)
        yield from nearest_by_cells(queries, points, k, cells, around, hubs)
        return
    for start in range(0, len(queries), BLOCK):
        part = queries[start : start + BLOCK]
        yield np.arange(start, start + len(part)), *nearest(part, points, k, hubs)


def _rows(
    table: VectorTable, points: Points, mask: np.ndarray | None
) -> tuple[pd.DataFrame, np.ndarray]:
    names = PRIMARY_KEY[table.level]
    mask = points.is_distinct if mask is None else mask
    if mask.all():
        return points.keys.select(names).to_pandas(), points.vectors
    return points.keys.select(names).filter(mask).to_pandas(), points.vectors[mask]


def _places(queries: pd.DataFrame) -> np.ndarray:
    """(n,) where each query comes among all: there are k times as many answers to sort."""
    places = np.empty(len(queries), dtype=np.int64)
    order = queries.reset_index(drop=True).sort_values([*queries.columns]).index
    places[order.to_numpy()] = np.arange(len(queries))
    return places


def _own_rows(queries: pd.DataFrame, candidates: pd.DataFrame) -> np.ndarray:
    """(n,) the row of each query among the candidates, or -1."""
    index = pd.MultiIndex.from_frame(candidates)
    return np.asarray(index.get_indexer(pd.MultiIndex.from_frame(queries)))


def _others(
    index: np.ndarray, distance: np.ndarray, own: np.ndarray, rows: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each row's k+1 nearest the first k that are not itself: query, found, rank, distance."""
    is_other = index != own[:, None]
    rank = np.cumsum(is_other, axis=1)
    who, which = np.nonzero(is_other & (rank <= k))
    return rows[who], index[who, which], rank[who, which], distance[who, which]
