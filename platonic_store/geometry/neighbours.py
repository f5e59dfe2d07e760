"""Exact nearest neighbours by matrix products, over rows that need not fit in memory."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Metric = Literal["cosine", "euclidean"]
Chunk: TypeAlias = tuple[int | NDArray[np.integer[Any]], NDArray[np.floating[Any]]]

ROWS = 8_192  # of points, in double precision at once
QUERIES = 512  # compared with them at once
FEW = 16  # queries: fewer are not worth a look in single precision
RESOLUTION = 1e-12  # distances closer than this tie


def distances(
    query: ArrayLike, points: ArrayLike, metric: Metric = "cosine"
) -> NDArray[np.float64]:
    """Distance of each query from each point, in double precision.

    "cosine" is 1 - cos, from 0 to 2; a zero vector is at distance 1 from everything. It is
    resolved to about 1e-15. "euclidean" is zero below about 3e-7 of the vectors' lengths.

    Args:
        query: (q, D).
        points: (n, D).
        metric: "cosine" or "euclidean".

    Returns:
        (q, n) float64, not negative.

    Raises:
        ValueError: an unknown metric, or matrices that do not match.
    """
    q, p = np.asarray(query, dtype=np.float64), np.asarray(points, dtype=np.float64)
    if q.ndim != 2 or p.ndim != 2 or q.shape[1] != p.shape[1]:
        raise ValueError(f"cannot compare {q.shape} with {p.shape}: both must be (rows, features)")
    dot, qq, pp = q @ p.T, np.einsum("ij,ij->i", q, q)[:, None], np.einsum("ij,ij->i", p, p)
    if metric == "cosine":
        lengths = np.sqrt(qq) * np.sqrt(pp)
        return np.clip(1 - dot / np.where(lengths > 0, lengths, 1), 0, 2)
    if metric == "euclidean":
        squared = qq + pp - 2 * dot
        squared[squared < 1e-13 * (qq + pp)] = 0  # what is left of equal rows after rounding
        return np.sqrt(squared)
    raise ValueError(f"unknown metric '{metric}', choose one of {', '.join(get_args(Metric))}")


def nearest(
    query: ArrayLike,
    points: NDArray[np.floating[Any]] | Iterable[Chunk],
    k: int,
    *,
    metric: Metric = "cosine",
    mask: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k points nearest to each query, exactly, nearest first.

    Memory is bounded by the largest chunk and the answer. Distances are rounded to 1e-12, and of
    equal ones the smaller index comes first: the result does not hang on how BLAS rounds, nor on
    how the points are cut into chunks.

    Args:
        query: (q, D), finite.
        points: (n, D) array, or an iterable of (ids, rows): ids an integer array, one a row, or
            the index of the chunk's first row.
        k: how many; fewer come back where fewer points are.
        metric: as in `distances`.
        mask: (n,) bool, over the indices: only points where it is true are considered.

    Returns:
        indices (q, min(k, points considered)) int64 and distances of that shape, float64.

    Raises:
        ValueError: k < 1, a query that is not finite, or as `distances`.
    """
    queries = np.asarray(query, dtype=np.float64)
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if queries.ndim != 2 or not np.isfinite(queries).all():
        raise ValueError(f"queries must be a finite (q, D) matrix, not of shape {queries.shape}")
    n, considered = len(queries), 0
    owner, index, distance = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    limit = np.full(n, np.inf)  # the k-th best so far
    for ids, rows in _chunks(points, mask):
        considered += len(ids)
        for start in range(0, n, QUERIES):
            part = slice(start, start + QUERIES)
            who, which, found = _within(queries[part], rows, k, limit[part], metric)
            owner = np.concatenate([owner, who + start])
            index = np.concatenate([index, ids[which]])
            distance = np.concatenate([distance, np.round(found, 12)])
        order = np.lexsort((index, distance, owner))
        rank = np.arange(len(order)) - np.searchsorted(owner[order], owner[order])
        order = order[rank < k]
        owner, index, distance = owner[order], index[order], distance[order]
        last = rank[rank < k] == k - 1
        limit[owner[last]] = distance[last]
    shape = n, min(k, considered)
    return index.reshape(shape), distance.reshape(shape)


def without_self(index: NDArray[np.int64], values: NDArray[Any]) -> NDArray[Any]:
    """Of each row's k+1 nearest among its own set drop the row itself.

    Where as many duplicates came before it that it is not among them, the last is dropped.

    Args:
        index: (n, k+1), from `nearest(points, points, k + 1)`.
        values: (n, k+1), what to drop from: the distances, or the indices themselves.

    Returns:
        (n, k).
    """
    own = index == np.arange(len(index))[:, None]
    own[~own.any(1), -1] = True
    return values[~own].reshape(len(index), -1)


def _chunks(
    points: NDArray[np.floating[Any]] | Iterable[Chunk], mask: NDArray[np.bool_] | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.floating[Any]]]]:
    for first, rows in [(0, points)] if isinstance(points, np.ndarray) else points:
        ids = np.asarray(first, dtype=np.int64)
        ids = ids + np.arange(len(rows)) if ids.ndim == 0 else ids
        for start in range(0, len(rows), ROWS):
            part_ids, part = ids[start : start + ROWS], rows[start : start + ROWS]
            if mask is not None:
                part_ids, part = part_ids[mask[part_ids]], part[mask[part_ids]]
            yield part_ids, part


def _within(
    queries: NDArray[np.float64],
    rows: NDArray[np.floating[Any]],
    k: int,
    limit: NDArray[np.float64],
    metric: Metric,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pairs (query, row) that may be among the k nearest, and their distances.

    Cosines of many queries are first computed in single precision, in less than half the time;
    whatever its rounding could have kept out is let in, and what is let in is computed again in
    double.
    """
    if metric != "cosine" or len(queries) < FEW or rows.shape[1:] != queries.shape[1:]:
        found = distances(queries, rows, metric)
        bound = np.minimum(limit, _kth(found, k))
        who, which = np.nonzero(found <= bound[:, None] + RESOLUTION)
        return who, which, found[who, which]
    cosines = _unit32(queries) @ _unit32(rows).T
    margin = np.finfo(np.float32).eps * (rows.shape[1] + 8)
    bound = np.minimum(limit, _kth(1 - cosines, k) + margin) + margin
    who, which = np.nonzero(cosines >= (1 - bound)[:, None].astype(np.float32))
    a, b = queries[who], rows[which].astype(np.float64)
    dot, aa, bb = (np.einsum("ij,ij->i", *pair) for pair in ((a, b), (a, a), (b, b)))
    lengths = np.sqrt(aa) * np.sqrt(bb)
    return who, which, np.clip(1 - dot / np.where(lengths > 0, lengths, 1), 0, 2)


def _unit32(rows: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    length = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    return rows.astype(np.float32) / np.where(length > 0, length, 1).astype(np.float32)[:, None]


def _kth(found: NDArray[np.floating[Any]], k: int) -> NDArray[np.floating[Any]]:
    if found.shape[1] <= k:
        return np.full(len(found), np.inf)
    return np.partition(found, k - 1, axis=1)[:, k - 1]
