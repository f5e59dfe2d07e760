"""The nearest neighbours of very many rows: each cell of rows is compared with the cells around it.

Exact search takes the product of both numbers of rows. Here the points are put into cells by
k-means, as in an inverted file (Jégou, Douze and Schmid, IEEE TPAMI 33, 117, 2011), and the queries
of a cell are compared with the points of the cells whose centres are nearest to its own, by matrix
products. How many cells are around follows from the recall that is measured on some of the queries.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from platonic_store.geometry.neighbours import ROWS, nearest, row_lengths

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]

EXACT_PAIRS = 2_500_000_000  # of queries and points; below, all are compared
CELL = 1_000  # points, about
MOST_CELLS = 4_096
FITTED = 50  # points a cell, from which its centre is computed
MOST_AROUND = 256
MEASURED = 200  # queries
RECALL = 0.993
SMALLEST = 1e-30


class Some(NamedTuple):
    """Rows of queries that are in one cell."""

    cell: int
    rows: Indices


class Cells(NamedTuple):
    """Points and queries in cells.

    points, queries: for each cell their rows, ascending. order: (c, up to `MOST_AROUND`) cells, the
    nearest first, itself among them.
    """

    points: list[Indices]
    queries: list[Indices]
    order: Indices

    def near(self, cell: int, around: int) -> Indices:
        """The rows of the points in the cells around a cell, ascending."""
        return np.sort(np.concatenate([self.points[c] for c in self.order[cell, :around]]))

    def parts(self, most: int) -> Iterator[Some]:
        """All queries, at most so many at once."""
        for cell, rows in enumerate(self.queries):
            for start in range(0, len(rows), most):
                yield Some(cell, rows[start : start + most])


def cells_of(queries: Floats, points: Floats) -> Cells:
    """Cells of about `CELL` points. queries: (q, D); points: (n, D), in an order that is theirs.

    Both may be in half precision, and may be the same array, which is then gone through once.
    """
    count = max(1, min(len(points) // CELL, MOST_CELLS))
    chosen = np.random.default_rng(0).permutation(len(points))[: FITTED * count]
    centres = centres_of(points[np.sort(chosen)], count)
    far = -(centres @ centres.T)
    np.fill_diagonal(far, -np.inf)  # a cell is first around itself, whatever rounding says
    order = np.argsort(far, axis=1, kind="stable")[:, :MOST_AROUND].copy()
    members = _members(points, centres)
    return Cells(members, members if queries is points else _members(queries, centres), order)


def centres_of(rows: Floats, count: int) -> NDArray[np.float32]:
    """(count, D) directions around which rows (n, D) lie, by k-means."""
    from sklearn.cluster import KMeans

    fitted = KMeans(count, init="random", n_init=1, max_iter=10, random_state=0)
    return _unit(fitted.fit(_unit(rows)).cluster_centers_)


def cells(rows: Floats, centres: Floats) -> Indices:
    """(n,) which of the centres is nearest to each row. rows: (n, D), of any length."""
    cell = np.empty(len(rows), dtype=np.int64)
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS].astype(np.float32, copy=False)
        cell[start : start + ROWS] = np.argmax(part @ centres.T, axis=1)
    return cell


def measured(
    queries: Floats,
    points: Floats,
    k: int,
    cells: Cells,
    hubs: Floats | None = None,
    own: Indices | None = None,
) -> tuple[int, float]:
    """The fewest cells around with a recall of `RECALL` at k (at most `MOST_AROUND`), and their
    recall: how many of the k nearest of `MEASURED` queries, found exactly, are in these cells.

    own: (q,) the row of each query among the points, which is not counted, or -1.
    """
    rng = np.random.default_rng(1)
    some = np.sort(rng.permutation(len(queries))[:MEASURED])
    found = nearest(queries[some], points, k + (own is not None), hubs)[0]
    is_other = np.ones(found.shape, bool) if own is None else found != own[some, None]
    query, which = np.nonzero(is_other & (np.cumsum(is_other, axis=1) <= k))
    asking = _cell_of(cells.queries, len(queries))[some[query]]
    answering = _cell_of(cells.points, len(points))[found[query, which]]
    is_one = cells.order[asking] == answering[:, None]
    steps = np.sort(np.where(is_one.any(axis=1), is_one.argmax(axis=1), MOST_AROUND))
    around = min(int(steps[math.ceil(RECALL * len(steps)) - 1]) + 1, MOST_AROUND)
    return around, float((steps < around).mean())


def _cell_of(members: list[Indices], n: int) -> NDArray[np.int32]:
    """(n,) the cell of each row."""
    cell = np.empty(n, dtype=np.int32)
    for number, rows in enumerate(members):
        cell[rows] = number
    return cell


def nearest_around(
    queries: Floats,
    points: Floats,
    k: int,
    cells: Cells,
    around: int,
    some: Some,
    hubs: Floats | None = None,
) -> tuple[Indices, Indices, NDArray[np.float64]]:
    """Rows of some of a cell's queries, and their k nearest of the points around, as `nearest`.

    Fewer than k come back where fewer are around.
    """
    cell, rows = some
    near = cells.near(cell, around)
    single = points[near].astype(np.float32, copy=False)
    index, distance = nearest(queries[rows], single, k, None if hubs is None else hubs[near])
    return rows, near[index], distance


def _members(rows: Floats, centres: Floats) -> list[Indices]:
    cell = cells(rows, centres)
    order = np.argsort(cell, kind="stable")
    return np.split(order, np.searchsorted(cell[order], np.arange(1, len(centres))))


def _unit(rows: Floats) -> Floats:
    return np.divide(rows, np.maximum(row_lengths(rows), SMALLEST)[:, None], dtype=np.float32)
