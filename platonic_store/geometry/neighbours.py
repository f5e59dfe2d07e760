"""Exact nearest neighbours by cosine distance, through matrix products.

Candidates are found in single precision, with a margin for its rounding error, and then computed in
double precision. So results equal those of a search in double precision, ties included.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Pairs: TypeAlias = tuple[Indices, Indices, Floats]

ROWS = 8_192  # of points, compared at once
QUERIES = 256  # compared with them at once
FEW = 16  # queries: for fewer it does not pay to normalise the points
SAFE = 1e-15, 1e15  # lengths whose squares are computed in single precision
SLOTS = 16  # groups of candidates for each answer, whose best say what may be left out
RESOLUTION = 1e-12  # distances closer than this are equal


def unit_rows(rows: ArrayLike) -> Floats:
    """Rows of unit length along the last axis, (…, D) float64; a zero row stays zero."""
    matrix = np.asarray(rows, dtype=np.float64)
    length = np.linalg.norm(matrix, axis=-1, keepdims=True)
    return np.divide(matrix, np.where(length > 0, length, 1))


def row_lengths(rows: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """(n,) float32, the lengths of (n, D) rows, summed in double precision."""
    squares: Floats = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return np.sqrt(squares).astype(np.float32)


def single_precision_error(features: int) -> float:
    """A bound of the rounding error of a cosine of `features` numbers in single precision."""
    return float(np.finfo(np.float32).eps) * (features + 8)


def distances(query: ArrayLike, points: ArrayLike) -> Floats:
    """Cosine distance (1 - cos) of each query from each point, in double precision.

    Resolved to about 1e-15. A zero vector is at distance 1 from everything.

    Args:
        query: (q, D).
        points: (n, D).

    Returns:
        (q, n) float64 within [0, 2].

    Raises:
        ValueError: matrices that do not match.
    """
    q, p = np.asarray(query, dtype=np.float64), np.asarray(points, dtype=np.float64)
    if q.ndim != 2 or p.ndim != 2 or q.shape[1] != p.shape[1]:
        raise ValueError(f"cannot compare {q.shape} with {p.shape}: both must be (rows, features)")
    dot, qq, pp = q @ p.T, np.einsum("ij,ij->i", q, q)[:, None], np.einsum("ij,ij->i", p, p)
    lengths = np.sqrt(qq) * np.sqrt(pp)
    return np.clip(np.subtract(1, dot / np.where(lengths > 0, lengths, 1)), 0, 2)


def nearest(
    query: ArrayLike,
    points: NDArray[np.floating[Any]],
    k: int,
    hubs: NDArray[np.float32] | None = None,
) -> tuple[Indices, Floats]:
    """The k points nearest to each query by cosine, exactly, nearest first.

    Distances are rounded to 1e-12, and of equal ones the smaller index comes first: the result does
    not depend on how BLAS rounds. Memory beside the arguments is bounded by a block and the answer.

    Args:
        query: (q, D), finite.
        points: (n, D).
        k: how many; fewer come back where there are fewer points.
        hubs: (n,), from `hubs.hubness`: points are then ordered by distance + hub / 2, see there.

    Returns:
        indices (q, min(k, n)) int64 and distances of that shape, float64.

    Raises:
        ValueError: k < 1, a query that is not finite, or as `distances`.
    """
    queries = np.asarray(query, dtype=np.float64)
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if queries.ndim != 2 or not np.isfinite(queries).all():
        raise ValueError(f"queries must be a finite (q, D) matrix, not of shape {queries.shape}")
    owner, index, score = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    limit = np.full(len(queries), np.inf)  # the k-th best so far
    half = _half(hubs, len(points))
    is_many = len(queries) >= FEW and points.shape[1:] == queries.shape[1:]
    unit_queries = _unit32(queries) if is_many else None
    for first in range(0, len(points), ROWS):
        rows, shift = points[first : first + ROWS], half[first : first + ROWS]
        units = _unit32(rows) if is_many else None
        parts = [(owner, index, score)]
        for start in range(0, len(queries), QUERIES):
            part = slice(start, start + QUERIES)
            given = queries[part], rows, shift, k, limit[part]
            if unit_queries is None or units is None:
                who, which, found = _within_few(*given)
            else:
                who, which, found = _within(*given, unit_queries[part], units)
            parts.append((who + start, which + first, np.round(found, 12)))
        owner, index, score = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((index, score, owner))
        rank = np.arange(len(order)) - np.searchsorted(owner[order], owner[order])
        order = order[rank < k]
        owner, index, score = owner[order], index[order], score[order]
        last = rank[rank < k] == k - 1
        limit[owner[last]] = score[last]
    shape = len(queries), min(k, len(points))
    distance = score if hubs is None else np.round(score - half[index], 12)
    return index.reshape(shape), distance.reshape(shape)


def nearest_others(points: ArrayLike, k: int) -> tuple[Indices, Floats]:
    """Each point's k nearest others by cosine, nearest first.

    Args:
        points: (n, D), finite, at least two.
        k: how many; fewer come back where there are fewer others.

    Returns:
        indices (n, min(k, n - 1)) int64 and distances of that shape, as `nearest`.
    """
    rows = np.asarray(points)
    index, distance = nearest(rows, rows, k + 1)
    own = index == np.arange(len(index))[:, None]
    own[~own.any(1), -1] = True  # k + 1 duplicates of smaller index: the last of them is dropped
    return index[~own].reshape(len(index), -1), distance[~own].reshape(len(index), -1)


def nearest_to_one(
    query: ArrayLike,
    rows: NDArray[np.float32],
    lengths: NDArray[np.float32],
    k: int,
    mask: NDArray[np.bool_] | None = None,
    hubs: NDArray[np.float32] | None = None,
) -> tuple[Indices, Floats]:
    """What `nearest` gives for one query, in a tenth of the time.

    Args:
        query: (D,), finite.
        rows: (n, D), each zero or longer than 1e-30.
        lengths: (n,), from `row_lengths`.
        k: how many; fewer come back where fewer rows are considered.
        mask: (n,) bool: only rows where it is true are considered.
        hubs: (n,), as for `nearest`.

    Returns:
        indices (min(k, considered),) int64 and distances of that shape, as `nearest`.

    Raises:
        ValueError: k < 1, or a query that is not finite.
    """
    vector = np.asarray(query, dtype=np.float64)
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if not np.isfinite(vector).all():
        raise ValueError("the query is not finite")
    cosines = rows @ (vector / (np.linalg.norm(vector) or 1)).astype(np.float32)
    cosines /= np.where(lengths > 0, lengths, 1)
    if hubs is not None:
        cosines -= hubs / 2
    if mask is not None:
        cosines[~mask] = -np.inf
    bound = -np.inf
    if k < len(rows):
        error = single_precision_error(rows.shape[1])
        bound = np.partition(cosines, len(rows) - k)[len(rows) - k] - 2 * error
    found = np.flatnonzero((cosines >= bound) & (cosines > -np.inf))
    distance = np.round(distances(vector[None], rows[found])[0], 12)
    score = distance if hubs is None else np.round(distance + hubs[found].astype(float) / 2, 12)
    order = np.lexsort((found, score))[:k]
    return found[order], distance[order]


def _half(hubs: NDArray[np.float32] | None, n: int) -> Floats:
    return np.zeros(n) if hubs is None else np.asarray(hubs, dtype=np.float64) / 2


def _within(
    queries: Floats,
    rows: NDArray[np.floating[Any]],
    shift: Floats,
    k: int,
    limit: Floats,
    unit_queries: NDArray[np.float32],
    units: NDArray[np.float32],
) -> Pairs:
    """Pairs (query, row) that may be among the k nearest, and their distances + shift.

    unit_queries, units: the queries and rows, brought to unit length.
    """
    cosines = unit_queries @ units.T
    if shift.any():
        cosines -= shift.astype(np.float32)
    return _compared(queries, rows, cosines, single_precision_error(rows.shape[1]), shift, k, limit)


def _within_few(
    queries: Floats, rows: NDArray[np.floating[Any]], shift: Floats, k: int, limit: Floats
) -> Pairs:
    """As `_within`, where it does not pay to bring the rows to unit length."""
    lengths = _single_lengths(rows)
    if rows.shape[1:] != queries.shape[1:] or lengths is None:
        found = distances(queries, rows) + shift
        bound = np.minimum(limit, -_kth_largest(-found, k))
        who, which = np.nonzero(found <= bound[:, None] + RESOLUTION)
        return who, which, found[who, which]
    cosines = _unit32(queries) @ rows.astype(np.float32, copy=False).T / lengths
    if shift.any():
        cosines -= shift.astype(np.float32)
    error = 2 * single_precision_error(rows.shape[1])
    return _compared(queries, rows, cosines, error, shift, k, limit)


def _compared(
    queries: Floats,
    rows: NDArray[np.floating[Any]],
    cosines: NDArray[np.float32],
    error: float,
    shift: Floats,
    k: int,
    limit: Floats,
) -> Pairs:
    """The pairs that cosines - shift of that error do not exclude, in double precision."""
    bound = np.minimum(limit, 1 - _kth_largest(cosines, k) + error) + error
    least = (1 - bound).astype(np.float32)
    who, which = np.divmod(np.flatnonzero(cosines >= least[:, None]), cosines.shape[1])
    a, b = queries[who], rows[which].astype(np.float64)
    dot, aa, bb = (np.einsum("ij,ij->i", *pair) for pair in ((a, b), (a, a), (b, b)))
    lengths = np.sqrt(aa) * np.sqrt(bb)
    distance = np.clip(1 - dot / np.where(lengths > 0, lengths, 1), 0, 2)
    return who, which, distance + shift[which]


def _single_lengths(rows: NDArray[np.floating[Any]]) -> NDArray[np.float32] | None:
    """(n,) lengths in single precision, where that is safe for every row, else None."""
    if rows.dtype != np.float32:
        return None
    lengths: NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    low, high = SAFE
    is_safe = len(rows) and lengths.min() > low and lengths.max() < high
    return lengths if is_safe else None


def _unit32(rows: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    lengths = row_lengths(rows)
    return np.divide(rows.astype(np.float32), np.where(lengths > 0, lengths, 1)[:, None])


def _kth_largest(found: NDArray[np.floating[Any]], k: int) -> NDArray[np.floating[Any]]:
    """(q,) a number that at least k of each row (q, n) reach: the k-th largest, or hardly less.

    It is the k-th largest of the maxima of `SLOTS` k groups: a search of all takes far longer.
    """
    if found.shape[1] <= k:
        return np.full(len(found), -np.inf)
    slots = SLOTS * k
    size = found.shape[1] // slots
    if size > 1:
        found = found[:, : size * slots].reshape(len(found), size, slots).max(axis=1)
    return np.partition(found, found.shape[1] - k, axis=1)[:, found.shape[1] - k]
