"""Sums and differences of embeddings, and how often the nearest row to one is the right one.

Mikolov, Yih and Zweig, NAACL-HLT 2013, 746: a − b + c is answered by the row of the largest
cosine, the terms themselves excluded ("3CosAdd" of Levy and Goldberg, CoNLL 2014, 171).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from platonic_store.geometry.retrieval import hits_at


def combine(weights: ArrayLike, vectors: ArrayLike) -> NDArray[np.float32]:
    """The weighted sum of vectors, in double precision.

    Args:
        weights: (n,), e.g. 1, −1 and 1 for a − b + c.
        vectors: (n, D).

    Returns:
        (D,) float32.

    Raises:
        ValueError: not as many weights as vectors.
    """
    w, v = np.asarray(weights, dtype=np.float64), np.asarray(vectors, dtype=np.float64)
    if v.ndim != 2 or w.shape != v.shape[:1]:
        raise ValueError(f"weights of shape {w.shape} for vectors of {v.shape}")
    return (w @ v).astype(np.float32)


def hits_at_1(
    queries: ArrayLike,
    points: ArrayLike,
    targets: ArrayLike,
    excluded: ArrayLike,
    hubs: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Whether the point nearest to each query (cosine) is its target.

    Points at the same distance share the first rank: a target that ties with m others counts
    1 / (m + 1), so that a space without structure scores no better than chance.

    Args:
        queries: (q, D).
        points: (n, D).
        targets: (q,) int, the row of `points` that each query looks for.
        excluded: (q, t) int, rows that do not count as answers to it, its target not among them.
        hubs: (n,) of the points, from `hubs.hubness`.

    Returns:
        hits (q,) float64 between 0 and 1, and the nearest rows (q,) int64.

    Raises:
        ValueError: shapes differ, or a target is excluded.
    """
    wanted, others = np.asarray(targets), np.asarray(excluded)
    count = len(np.asarray(queries))
    if wanted.shape != (count,) or others.shape[:-1] != wanted.shape:
        raise ValueError(f"{wanted.shape} targets, {others.shape} excluded for {count} queries")
    if (others == wanted[:, None]).any():
        raise ValueError("a target is excluded")
    return hits_at(1, queries, points, wanted, others, hubs)
