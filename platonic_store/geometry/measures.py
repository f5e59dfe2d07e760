"""Measures of how similar two models' embeddings of the same atoms are, with their null.

All take the embeddings less their mean, row for row the same atoms; none needs a shared space. n
atoms cost a few n × n matrices: sample first. Scores rise with the number of coordinates alone
(arXiv 2602.14486) and say little by themselves: `calibrated` puts each between the score of
shuffled atoms and the best possible.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from platonic_store.geometry.neighbours import unit_rows

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]


class View:
    """One model's embeddings of n atoms less their mean, and matrices computed from them.

    Args:
        rows: (n, D), finite.
        k: neighbours of an atom.

    Raises:
        ValueError: rows not 2-D and finite, fewer than four, or k not in 1…n-1.
    """

    def __init__(self, rows: ArrayLike, k: int = 10):
        x = np.asarray(rows, dtype=np.float64)
        if x.ndim != 2 or len(x) < 4 or not np.isfinite(x).all():
            raise ValueError(f"need at least 4 finite rows, not a matrix of shape {x.shape}")
        if not 1 <= k < len(x):
            raise ValueError(f"k must be within 1…{len(x) - 1}, not {k}")
        self.x, self.k = x - x.mean(0), k

    @cached_property
    def cosines(self) -> Floats:
        """(n, n) cosines of all pairs of rows, 0 with a row of zeros."""
        unit = unit_rows(self.x)
        return unit @ unit.T

    @cached_property
    def neighbours(self) -> Indices:
        """(n, k): each atom's k nearest others by cosine."""
        others = self.cosines.copy()
        np.fill_diagonal(others, -np.inf)
        return np.argpartition(-others, self.k - 1, axis=1)[:, : self.k]

    @cached_property
    def near(self) -> NDArray[np.bool_]:
        """(n, n): whether j is among i's k nearest."""
        found = np.zeros(self.cosines.shape, dtype=bool)
        np.put_along_axis(found, self.neighbours, True, axis=1)
        return found

    def centred(self, i: Indices, j: Indices) -> Floats:
        """Cosines of pairs less the mean of their row i."""
        return np.asarray(self.cosines[i, j] - self._mean_cosines[i])

    @cached_property
    def _mean_cosines(self) -> Floats:
        return np.asarray(self.cosines.mean(1))

    @property
    def squares(self) -> Floats:
        """(n, n) squared Euclidean distances."""
        norms = np.einsum("ij,ij->i", self.x, self.x)
        return np.asarray(np.maximum(norms[:, None] + norms - 2 * self.x @ self.x.T, 0))

    @cached_property
    def ranks(self) -> NDArray[np.int32]:
        """(n, n): j's place among i's others by distance, 1 the nearest."""
        others = self.squares
        np.fill_diagonal(others, -1)
        order = np.argsort(others, axis=1, kind="stable")
        found = np.empty(others.shape, dtype=np.int32)
        np.put_along_axis(found, order, np.arange(len(others), dtype=np.int32)[None], axis=1)
        return found

    @cached_property
    def dissimilarity(self) -> Floats:
        """(n, n) ranks of the distances of all pairs, standardised, 0 on the diagonal."""
        from scipy.stats import rankdata

        n = len(self.x)
        upper = np.triu_indices(n, 1)
        ranked = rankdata(self.squares[upper])
        spread = ranked.std() or 1.0
        full = np.zeros((n, n), dtype=np.float32)
        full[upper] = (ranked - ranked.mean()) / spread
        return full + full.T


def mutual_knn(a: View, b: View, order: Indices) -> float:
    """Mean share of an atom's k nearest (cosine) that both have: Huh et al., arXiv 2405.07987."""
    return float(b.near[order[:, None], order[a.neighbours]].mean())


def cknna(a: View, b: View, order: Indices) -> float:
    """CKA of nothing but nearest neighbours: Huh et al., arXiv 2405.07987, equations 8 to 10.

    Σ α_ij (K_ij - mean_l K_il)(L_ij - mean_l L_il) over pairs that are neighbours in both models,
    over the root of the same with each model twice; K and L are cosines.
    """
    rows = np.arange(len(a.x))[:, None]
    j = a.neighbours
    both = b.near[order[:, None], order[j]]
    across = (both * a.centred(rows, j) * b.centred(order[:, None], order[j])).sum()
    alone = [(view.centred(rows, view.neighbours) ** 2).sum() for view in (a, b)]
    return float(across / np.sqrt(alone[0] * alone[1])) if min(alone) > 0 else 0.0


def cka(a: View, b: View, order: Indices) -> float:
    """Linear CKA (Kornblith et al., arXiv 1905.00414), debiased.

    Its HSIC is the unbiased estimator of Song et al., JMLR 13, 1393, 2012, equation 5: about 0, not
    above it, where nothing corresponds, however many coordinates there are.
    """
    y = b.x[order]
    alone = _hsic(a.x, a.x) * _hsic(y, y)
    return float(_hsic(a.x, y) / np.sqrt(alone)) if alone > 0 else 0.0


def _hsic(x: Floats, y: Floats) -> float:
    """tr(KL) + 1'K1 1'L1 / (n-1)(n-2) - 2 1'KL1 / (n-2), without the diagonals of K = xx', L."""
    n = len(x)
    k, l_ = np.einsum("ij,ij->i", x, x), np.einsum("ij,ij->i", y, y)
    kx, ly = x @ x.sum(0) - k, y @ y.sum(0) - l_
    trace = ((x.T @ y) ** 2).sum() - k @ l_
    return float(trace + kx.sum() * ly.sum() / ((n - 1) * (n - 2)) - 2 * kx @ ly / (n - 2))


def rsa(a: View, b: View, order: Indices) -> float:
    """Spearman correlation of all pairs' distances: Kriegeskorte et al., 2008, 10/d6m7k2."""
    n = len(a.x)
    shuffled = b.dissimilarity[order].take(order, axis=1)
    return float((a.dissimilarity * shuffled).sum() / (n * (n - 1)))


def procrustes(a: View, b: View, order: Indices) -> float:
    """1 if a rotation and a scale turn one into the other: |X'Y|_* / |X| |Y|, Schönemann 1966."""
    size = np.linalg.norm(a.x) * np.linalg.norm(b.x)
    singular = np.linalg.svd(a.x.T @ b.x[order], compute_uv=False)
    return float(singular.sum() / size) if size > 0 else 0.0


def imbalance(a: View, b: View, order: Indices) -> float:
    """Information imbalance Δ(a → b): 0 if a's nearest atom is b's, 1 if it is any.

    Glielmo et al., PNAS Nexus 1, pgac039, 2022, equation 1: 2/n times the mean rank in b of an
    atom's nearest by a. How little of b is known from a.
    """
    nearest = (a.ranks == 1).argmax(1)
    return float(2 / len(a.x) * b.ranks[order, order[nearest]].mean())


Measure = Callable[[View, View, Indices], float]
SYMMETRIC: dict[str, Measure] = {
    "mutual_knn": mutual_knn,
    "cknna": cknna,
    "cka": cka,
    "rsa": rsa,
    "procrustes": procrustes,
}
DIRECTED: dict[str, Measure] = {"imbalance": imbalance}
# What a model has with itself, where that is not 1.
BEST = {"imbalance": 0.0}


def permutation_null(measure: Measure, a: View, b: View, n: int, seed: int) -> NDArray[np.float64]:
    """(n,) values with b's atoms shuffled: what the measure is where nothing corresponds."""
    rng = np.random.default_rng(seed)
    return np.array([measure(a, b, rng.permutation(len(b.x))) for _ in range(n)])


def calibrated(value: float, shuffled: ArrayLike, best: float = 1.0) -> float:
    """(value - mean of the null) / (best - mean of the null): 0 by chance, 1 for a model itself."""
    chance = float(np.asarray(shuffled).mean())
    return (value - chance) / (best - chance) if best != chance else 0.0


def halves(groups: ArrayLike, n: int, seed: int) -> list[Indices]:
    """n random halves of the groups (structures), as rows.

    The spread of a statistic over half-samples is its standard error (Shao and Wu, Ann. Stat. 17,
    1176, 1989, the delete-half jackknife), with atoms of one structure kept together and without
    the bootstrap's repeated rows, which would be each other's nearest neighbours.

    Raises:
        ValueError: fewer than four groups.
    """
    labels = np.unique(np.asarray(groups), return_inverse=True)[1]
    count = int(labels.max(initial=-1)) + 1
    if count < 4:
        raise ValueError(f"need at least 4 structures, not {count}")
    rng = np.random.default_rng(seed)
    chosen = (rng.permutation(count)[: count // 2] for _ in range(n))
    return [np.flatnonzero(np.isin(labels, half)) for half in chosen]
