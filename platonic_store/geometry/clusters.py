"""Groups of rows: those that lie around one mode, and those that are all but the same."""

import numpy as np
from numpy.typing import NDArray

from platonic_store.geometry.neighbours import QUERIES, distances


def modes(indices: NDArray[np.int64], spacing: NDArray[np.floating]) -> NDArray[np.int64]:
    """Clusters without a number to choose: each row climbs to the mode of density above it.

    The density of a row is told by the distance to its last neighbour. A row's parent is the
    nearest of its neighbours that is denser; a row without one is a mode, and speaks for all that
    climb to it (Koontz, Narendra, Fukunaga, IEEE Trans. Comput. C-25, 936, 1976,
    DOI 10.1109/TC.1976.1674719). No seed and no iteration: it depends on the rows alone. Between
    rows whose last neighbours are equally far the sum of the distances decides, then the index.

    Args:
        indices: (n, k), each row's k nearest others, nearest first.
        spacing: (n, k), their distances.

    Returns:
        (n,) int64, the row of the mode that each row belongs to.
    """
    n = len(indices)
    rank = np.empty(n, dtype=np.int64)
    rank[np.lexsort((np.arange(n), spacing.sum(axis=1), spacing[:, -1]))] = np.arange(n)
    denser = rank[indices] < rank[:, None]
    nearest_denser = indices[np.arange(n), denser.argmax(axis=1)]
    return _roots(np.where(denser.any(axis=1), nearest_denser, np.arange(n)))


def first_alike(
    vectors: NDArray[np.floating], kinds: NDArray[np.int64], within: float
) -> NDArray[np.int64]:
    """The first row of each row's group of near duplicates; itself where there is none before.

    A row joins the first row of its own kind that is no further than `within`, and that row's
    group. Memory is bounded by 512 rows of the largest kind.

    Args:
        vectors: (n, D).
        kinds: (n,) integers; rows of different kinds are never alike.
        within: cosine distance.

    Returns:
        (n,) int64.
    """
    parents = np.arange(len(vectors))
    order = np.argsort(kinds, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(kinds[order])) + 1):
        for start in range(0, len(rows) if len(rows) > 1 else 0, QUERIES):
            part = rows[start : start + QUERIES]
            near = distances(vectors[part], vectors[rows]) <= within
            first = rows[near.argmax(axis=1)]
            parents[part] = np.where(near.any(axis=1), np.minimum(first, part), part)
    return _roots(parents)


def _roots(parents: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each row ends up that goes from parent to parent; roots are their own parents."""
    while (parents != parents[parents]).any():
        parents = parents[parents]
    return parents
