"""Sums and differences of embeddings, and how often the nearest row to one is the right one.

Mikolov, Yih and Zweig, NAACL-HLT 2013, 746: a − b + c is answered by the row of the largest
cosine, the terms themselves left out ("3CosAdd" of Levy and Goldberg, CoNLL 2014, 171).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from platonic_store.geometry.neighbours import QUERIES, RESOLUTION, distances


def combine(weights: ArrayLike, vectors: ArrayLike) -> NDArray[np.float32]:
    """The weighted sum of vectors, in double precision.

    Args:
        weights: (n,), e.g. 1, −1 and 1 for a − b + c.
        vectors: (n, D).

    Returns:
        (D,) float32.

    Raises:
        ValueError: there is not one weight a vector.
    """
    w, v = np.asarray(weights, dtype=np.float64), np.asarray(vectors, dtype=np.float64)
    if v.ndim != 2 or w.shape != v.shape[:1]:
        raise ValueError(f"weights of shape {w.shape} for vectors of {v.shape}")
    return (w @ v).astype(np.float32)


def answered(
    queries: ArrayLike, points: ArrayLike, targets: ArrayLike, barred: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Whether the point nearest to each query (cosine) is its target.

    Points at the same distance share the first rank: a target that ties with m others counts
    1 / (m + 1), so that a space without structure scores no better than chance.

    Args:
        queries: (q, D).
        points: (n, D).
        targets: (q,) int, the row of `points` that each query looks for.
        barred: (q, t) int, rows that may not answer it, its target not among them.

    Returns:
        hits (q,) between 0 and 1, and the nearest rows (q,) int64.

    Raises:
        ValueError: shapes differ, or a target is barred.
    """
    asked, rows = np.asarray(queries), np.asarray(points)
    wanted, kept_out = np.asarray(targets), np.asarray(barred)
    if wanted.shape != (len(asked),) or kept_out.shape[:-1] != wanted.shape:
        raise ValueError(f"{wanted.shape} targets, {kept_out.shape} barred of {len(asked)} queries")
    if (kept_out == wanted[:, None]).any():
        raise ValueError("a target is barred")
    hits, nearest = np.empty(len(asked)), np.empty(len(asked), dtype=np.int64)
    for start in range(0, len(asked), QUERIES):
        part = slice(start, start + QUERIES)
        distance = distances(asked[part], rows)
        np.put_along_axis(distance, kept_out[part], np.inf, axis=1)
        gap = distance - np.take_along_axis(distance, wanted[part, None], axis=1)
        ties = (np.abs(gap) <= RESOLUTION).sum(1)
        hits[part] = np.where((gap < -RESOLUTION).any(1), 0, 1 / ties)
        nearest[part] = distance.argmin(1)
    return hits, nearest
