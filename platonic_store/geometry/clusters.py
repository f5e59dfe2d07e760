"""Groups of rows: clusters around the modes of their density, and near duplicates."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from platonic_store.geometry.neighbours import QUERIES, distances


def mode_clusters(
    indices: NDArray[np.int64], spacing: NDArray[np.floating[Any]]
) -> NDArray[np.int64]:
    """Clusters around the modes of the rows' density; how many there are follows from the rows.

    A row is the denser, the nearer its last neighbour; between equals the sum of the distances
    decides, then the index. A row's parent is the nearest of its neighbours that is denser; a row
    without one is a mode, and a cluster is all rows whose parents lead to one mode (Koontz,
    Narendra, Fukunaga, IEEE Trans. Comput. C-25, 936, 1976, DOI 10.1109/TC.1976.1674719). No seed
    and no iteration.

    Args:
        indices: (n, k), each row's k nearest others, nearest first.
        spacing: (n, k), their distances.

    Returns:
        (n,) int64, the row of each row's mode.
    """
    n = len(indices)
    rank = np.empty(n, dtype=np.int64)
    rank[np.lexsort((np.arange(n), spacing.sum(axis=1), spacing[:, -1]))] = np.arange(n)
    denser = rank[indices] < rank[:, None]
    nearest_denser = indices[np.arange(n), denser.argmax(axis=1)]
    return _roots(np.where(denser.any(axis=1), nearest_denser, np.arange(n)))


def near_duplicate_groups(
    vectors: NDArray[np.floating[Any]], kinds: NDArray[np.int64], within: float
) -> NDArray[np.int64]:
    """The first row of each row's group of near duplicates; the row itself if it is the first.

    A row joins the group of the first row of its kind that is no farther than `within`. Memory
    beside the arguments is bounded by distances of 512 rows from the largest kind.

    Args:
        vectors: (n, D).
        kinds: (n,) integers; rows of different kinds are never duplicates.
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


def close_pairs(
    queries: NDArray[np.floating[Any]],
    query_kinds: NDArray[np.int64],
    rows: NDArray[np.floating[Any]],
    kinds: NDArray[np.int64],
    within: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """All pairs of a query and a row of its kind that are no farther than `within`.

    Memory beside the arguments and the pairs is bounded by distances of 512 queries from the
    largest kind.

    Args:
        queries: (q, D). rows: (n, D).
        query_kinds, kinds: (q,) and (n,) integers; only equal ones are compared.
        within: cosine distance.

    Returns:
        (p,) int64 indices of the queries, ascending, (p,) int64 of the rows, and their distances.
    """
    by_kind = np.argsort(kinds, kind="stable")
    sorted_kinds = kinds[by_kind]
    asked = np.argsort(query_kinds, kind="stable")
    known, starts = np.unique(query_kinds[asked], return_index=True)
    first = np.searchsorted(sorted_kinds, known)
    last = np.searchsorted(sorted_kinds, known, side="right")
    found = []
    for part, start, end in zip(np.split(asked, starts[1:]), first, last, strict=False):
        others = by_kind[start:end]
        for begin in range(0, len(part) if len(others) else 0, QUERIES):
            some = part[begin : begin + QUERIES]
            apart = distances(queries[some], rows[others])
            who, which = np.nonzero(apart <= within)
            found.append((some[who], others[which], apart[who, which]))
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    query, row, distance = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((row, query))
    return query[order], row[order], distance[order]


def connected(n: int, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) the first of the rows that hang together with each by pairs."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    links = coo_matrix((np.ones(len(one), dtype=bool), (one, other)), shape=(n, n))
    label = connected_components(links, directed=False)[1]
    return np.asarray(np.unique(label, return_index=True)[1][label], dtype=np.int64)


def _roots(parents: NDArray[np.int64]) -> NDArray[np.int64]:
    """The root that each row's chain of parents ends in; a root is its own parent."""
    while (parents != parents[parents]).any():
        parents = parents[parents]
    return parents
