"""How alike two models see the same atoms, from their coordinates row for row.

A raw score means little: scores rise with the number of coordinates alone (arXiv 2602.14486).
Compare each with `permutation_null`.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from platonic_store.geometry.neighbours import (
    QUERIES,
    RESOLUTION,
    distances,
    nearest,
    without_self,
)


def retrieval(za: ArrayLike, zb: ArrayLike, k: int) -> float:
    """Recall@k: how often an atom, asked with za, is among its k nearest by cosine in zb.

    Rows at the same distance share their ranks (the expectation over a random order of ties), so
    that a collapsed space, where all is equally near, scores k/n and not 1.

    Args:
        za, zb: (n, K), the same atoms in the same order.
        k: how many answers count.

    Returns:
        Between 0 and 1; chance is k/n.

    Raises:
        ValueError: shapes differ, or k not in 1…n.
    """
    a, b = _paired(za, zb, k)
    found = 0.0
    for start in range(0, len(a), QUERIES):
        gap = distances(a[start : start + QUERIES], b)
        gap -= gap[np.arange(len(gap)), start + np.arange(len(gap))][:, None]
        nearer = (gap < -RESOLUTION).sum(1)
        ties = (np.abs(gap) <= RESOLUTION).sum(1)  # itself among them
        found += np.clip((k - nearer) / ties, 0, 1).sum()
    return found / len(a)


def mutual_knn(za: ArrayLike, zb: ArrayLike, k: int) -> float:
    """Mean share of each atom's k nearest others (cosine) that both spaces have in common.

    Huh, Cheung, Wang and Isola, ICML 2024, arXiv 2405.07987, equation 11.

    Args:
        za, zb: (n, K) and (n, K'), the same atoms in the same order.
        k: how many neighbours.

    Returns:
        Between 0 and 1; chance is k/(n-1).

    Raises:
        ValueError: lengths differ, or k not in 1…n-1.
    """
    a, b = _paired(za, zb, k + 1, same_space=False)
    (ia, _), (ib, _) = nearest(a, a, k + 1), nearest(b, b, k + 1)
    na, nb = without_self(ia, ia), without_self(ib, ib)
    return float((na[:, :, None] == nb[:, None, :]).any(2).mean())


def permutation_null(
    score: Callable[[NDArray, NDArray], float], za: ArrayLike, zb: ArrayLike, n: int, seed: int
) -> NDArray[np.float64]:
    """Scores when the rows of zb are shuffled: what the score is where nothing corresponds.

    Args:
        score: of (za, zb), e.g. `partial(retrieval, k=10)`.
        za, zb: as the score takes them.
        n: how many shuffles.
        seed: of the shuffles.

    Returns:
        (n,) float64. The score's p-value against it is `conformal_p([score], null)`.
    """
    a, b = np.asarray(za), np.asarray(zb)
    rng = np.random.default_rng(seed)
    return np.array([score(a, b[rng.permutation(len(b))]) for _ in range(n)])


def _paired(
    za: ArrayLike, zb: ArrayLike, k: int, same_space: bool = True
) -> tuple[NDArray, NDArray]:
    a, b = np.asarray(za), np.asarray(zb)
    if len(a) != len(b) or (same_space and a.shape != b.shape):
        raise ValueError(f"{a.shape} and {b.shape} are not the same atoms in both models")
    if not 1 <= k <= len(a):
        raise ValueError(f"k is out of range for {len(a)} atoms")
    return a, b
