"""How often the right row is among the nearest, by cosine distance.

Rows at the same distance from a query share their ranks (the expectation over a random order of
ties), so that a collapsed space, where all rows are equally near, scores k/n and not 1.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from platonic_store.geometry.neighbours import QUERIES, RESOLUTION, Floats, Indices, distances


def retrieval(
    za: ArrayLike, zb: ArrayLike, k: int, hubs: NDArray[np.float32] | None = None
) -> float:
    """Recall@k across models: how often an atom's row of za has its row of zb among the k nearest.

    Args:
        za, zb: (n, K), the same atoms in the same order, in a space that both models share.
        k: how many answers count.
        hubs: (n,) of zb, from `hubs.hubness`.

    Returns:
        Between 0 and 1; chance is k/n.

    Raises:
        ValueError: shapes differ, or k not in 1…n.
    """
    a, b = np.asarray(za), np.asarray(zb)
    if a.shape != b.shape:
        raise ValueError(f"{a.shape} and {b.shape} are not the same atoms in both models")
    if not 1 <= k <= len(a):
        raise ValueError(f"k must be within 1…{len(a)}, not {k}")
    rows = np.arange(len(a))
    return float(hits_at(k, a, b, rows, np.empty((len(a), 0), dtype=int), hubs)[0].mean())


def retrieval_matrix(
    za: ArrayLike, zb: ArrayLike, k: int, hubs: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Whether b's atom j is among the k nearest to a's atom i.

    The mean of the diagonal is `retrieval`; the mean along a permutation is what shuffled atoms
    get.

    Args:
        za, zb: (n, K), the same atoms in the same order.
        k: how many answers count.
        hubs: (n,) of zb, from `hubs.hubness`.

    Returns:
        (n, n) float32 between 0 and 1.
    """
    gaps = distances(za, zb) + (0 if hubs is None else hubs / 2)
    hits = np.empty(gaps.shape, dtype=np.float32)
    for row, out in zip(gaps, hits, strict=True):
        ordered = np.sort(row)
        nearer = np.searchsorted(ordered, row - RESOLUTION)
        within = np.searchsorted(ordered, row + RESOLUTION, side="right")
        out[:] = np.clip((k - nearer) / (within - nearer), 0, 1)
    return hits


def hits_at(
    k: int,
    queries: ArrayLike,
    points: ArrayLike,
    targets: Indices,
    excluded: Indices,
    hubs: NDArray[np.float32] | None = None,
) -> tuple[Floats, Indices]:
    """Whether each query's target is among the k points nearest to it.

    Args:
        k: how many answers count.
        queries: (q, D).
        points: (n, D).
        targets: (q,), the row of `points` that each query looks for.
        excluded: (q, t), rows that do not count as answers to it.
        hubs: (n,) of the points, from `hubs.hubness`.

    Returns:
        hits (q,) float64 between 0 and 1, and the nearest rows (q,) int64.
    """
    asked = np.asarray(queries)
    hits, nearest = np.empty(len(asked)), np.empty(len(asked), dtype=np.int64)
    for start in range(0, len(asked), QUERIES):
        part = slice(start, start + QUERIES)
        distance = distances(asked[part], points) + (0 if hubs is None else hubs / 2)
        np.put_along_axis(distance, excluded[part], np.inf, axis=1)
        gap = distance - np.take_along_axis(distance, targets[part, None], axis=1)
        nearer = (gap < -RESOLUTION).sum(1)
        ties = (np.abs(gap) <= RESOLUTION).sum(1)  # the target among them
        hits[part] = np.clip((k - nearer) / ties, 0, 1)
        nearest[part] = distance.argmin(1)
    return hits, nearest
