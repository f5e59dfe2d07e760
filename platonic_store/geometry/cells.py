"""The nearest neighbours of very many rows: each cell of rows is compared with the cells around it.

Exact search takes the product of both numbers of rows. Here the points are put into cells by
k-means, as in an inverted file (Jégou, Douze and Schmid, IEEE TPAMI 33, 117, 2011), and the queries
of a cell are compared with the points of the cells whose centres are nearest to its own, by matrix
products. How many cells are around follows from the recall that is measured on some of the queries.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from platonic_store.geometry.neighbours import ROWS, nearest, row_lengths

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

EXACT_PAIRS = 2_500_000_000  # of queries and points; below, all are compared
CELL = 1_000  # points, about
MOST_CELLS = 4_096
FITTED = 50  # points a cell, from which its centre is computed
AROUND = (4, 8, 16, 32, 64, 128, 256)
MEASURED = 200  # queries
RECALL = 0.993
SMALLEST = 1e-30


class Cells(NamedTuple):
    """Points and queries in cells.

    points, queries: for each cell their rows, ascending. order: (c, c) cells, the nearest first,
    itself among them.
    """

    points: list[Indices]
    queries: list[Indices]
    order: Indices

    def near(self, cell: int, around: int) -> Indices:
        """The rows of the points in the cells around a cell, ascending."""
        return np.sort(np.concatenate([self.points[c] for c in self.order[cell, :around]]))


def cells_of(queries: Floats, points: Floats) -> Cells:
    """Cells of about `CELL` points. queries: (q, D); points: (n, D), in an order that is theirs."""
    count = max(1, min(len(points) // CELL, MOST_CELLS))
    chosen = np.random.default_rng(0).permutation(len(points))[: FITTED * count]
    centres = centres_of(points[np.sort(chosen)], count)
    order = np.argsort(-(centres @ centres.T), axis=1, kind="stable")
    # A cell is first around itself, whatever rounding says.
    order = np.array([[c, *row[row != c]] for c, row in enumerate(order)])
    return Cells(_members(points, centres), _members(queries, centres), order)


def centres_of(rows: Floats, count: int) -> Floats:
    """(count, D) directions around which rows (n, D) lie, by k-means."""
    from sklearn.cluster import KMeans

    fitted = KMeans(count, init="random", n_init=1, max_iter=10, random_state=0)
    return _unit(fitted.fit(_unit(rows)).cluster_centers_)


def cells(rows: Floats, centres: Floats) -> Indices:
    """(n,) which of the centres is nearest to each row. rows: (n, D), of any length."""
    cell = np.empty(len(rows), dtype=np.int64)
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        cell[start : start + ROWS] = np.argmax(part @ centres.T, axis=1)
    return cell


def measured(
    queries: Floats, points: Floats, k: int, cells: Cells, hubs: Floats | None = None
) -> tuple[int, float]:
    """How many cells around suffice for a recall of `RECALL` at k, and the recall that they reach.

    Of `MEASURED` queries, whose nearest are found exactly.
    """
    rng = np.random.default_rng(1)
    some = np.sort(rng.permutation(len(queries))[:MEASURED])
    exact = np.sort(nearest(queries[some], points, k, hubs)[0], axis=1)
    cell = np.empty(len(queries), dtype=np.int64)
    for number, rows in enumerate(cells.queries):
        cell[rows] = number
    around, recall = 0, 0.0
    for around in AROUND:
        hits = 0
        for row, wanted in zip(some, exact, strict=True):
            near = cells.near(int(cell[row]), around)
            part = None if hubs is None else hubs[near]
            found = near[nearest(queries[row : row + 1], points[near], k, part)[0][0]]
            hits += len(np.intersect1d(found, wanted))
        recall = hits / exact.size
        if recall >= RECALL or around >= len(cells.order):
            break
    return around, recall


def nearest_by_cells(
    queries: Floats,
    points: Floats,
    k: int,
    cells: Cells,
    around: int,
    hubs: Floats | None = None,
) -> Iterator[tuple[Indices, Indices, NDArray[np.float64]]]:
    """Rows of queries, and their k nearest of the points around, as `neighbours.nearest`.

    Every query comes once; fewer than k come back where fewer are around.
    """
    for cell, rows in enumerate(cells.queries):
        near = cells.near(cell, around)
        if len(rows) and len(near):
            part = None if hubs is None else hubs[near]
            index, distance = nearest(queries[rows], points[near], k, part)
            yield rows, near[index], distance


def _members(rows: Floats, centres: Floats) -> list[Indices]:
    cell = cells(rows, centres)
    order = np.argsort(cell, kind="stable")
    return np.split(order, np.searchsorted(cell[order], np.arange(1, len(centres))))


def _unit(rows: Floats) -> Floats:
    return np.divide(rows, np.maximum(row_lengths(rows), SMALLEST)[:, None], dtype=np.float32)
