"""How alike two sets of vectors are: Fréchet distance, precision, recall, density, coverage.

The rows of `a` are those in question (generated, say), the rows of `b` what they are held against.
Distances are Euclidean. Every measure depends on how many rows there are, so that a value says
nothing without what two halves of `b` give at the same numbers: see `halves`.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from platonic_store.geometry.neighbours import unit_rows

Floats = NDArray[np.float64]
Rows = NDArray[np.floating[Any]]

BLOCK = 1_024  # rows compared with all others at once
EQUAL = 1e-12  # squared distances that differ by no more are equal


class Manifold(NamedTuple):
    """What each row adds to the measures of `manifold`, which are the means of these.

    precision: (n_a,) 1 where the row is in the ball of some row of b, else 0. density: (n_a,) how
    many balls it is in, over k. recall: (n_b,) 1 where the row is in the ball of some row of a.
    coverage: (n_b,) 1 where the row's own ball holds a row of a.
    """

    precision: Floats
    recall: Floats
    density: Floats
    coverage: Floats


def frechet_distance(a: ArrayLike, b: ArrayLike) -> float:
    """The squared Fréchet distance of the normal distributions that fit two sets.

        |m_a − m_b|² + tr(C_a + C_b − 2 (C_a C_b)^½)

    with means m and covariances C (Dowson and Landau, J. Multivar. Anal. 12, 450, 1982; for
    embeddings Heusel et al., arXiv 1706.08500, and Preuer et al., arXiv 1803.09518, equation 1).
    It falls with the number of rows as 1/n towards its limit.

    Args:
        a: (n_a, D), finite, at least two rows. b: (n_b, D), as a.

    Returns:
        At least 0, in squared units of the rows.
    """
    return _frechet(*_normal(np.asarray(a)), *_normal(np.asarray(b)))


def manifold(a: ArrayLike, b: ArrayLike, k: int = 5) -> Manifold:
    """Precision, recall, density and coverage of a set against another.

    A row's ball reaches to its k-th nearest other of its own set. Precision and recall are those of
    Kynkäänniemi et al., arXiv 1904.06991, equation 2; density and coverage of Naeem et al., arXiv
    2002.09797, equations 4 and 5, who also choose k = 5. Memory is bounded by a block of distances.

    Args:
        a: (n_a, D). b: (n_b, D). Both finite, with more than k rows.

    Raises:
        ValueError: too few rows.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if min(len(x), len(y)) <= k:
        raise ValueError(f"sets of {len(x)} and {len(y)} rows have no {k} neighbours each")
    reach_x, reach_y = _reach(x, k), _reach(y, k)
    precision, density = np.empty((2, len(x)))
    recall, coverage = np.zeros((2, len(y)), dtype=bool)
    for rows, squares in _squares(x, y):
        inside = squares <= reach_y
        precision[rows], density[rows] = inside.any(axis=1), inside.sum(axis=1) / k
        coverage |= inside.any(axis=0)
        recall |= (squares <= reach_x[rows, None]).any(axis=0)
    return Manifold(precision, recall.astype(float), density, coverage.astype(float))


def vendi(rows: ArrayLike) -> float:
    """The effective number of different rows: 1 if all have one direction, n if all are orthogonal.

    exp of the entropy of the eigenvalues of the kernel of cosines over n (Friedman and Dieng, arXiv
    2210.02410, equation 3), computed from the D × D matrix that has the same eigenvalues.

    Args:
        rows: (n, D).
    """
    unit = unit_rows(np.asarray(rows))
    found = np.linalg.eigvalsh(unit.T @ unit / len(unit))
    shares = found[found > EQUAL]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def halves(
    n_a: int, n_b: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows of a, and two parts of b of which the first has as many: what can be compared fairly.

    Either is held against the second part of b; where a has more rows than half of b, each has half
    of b. The rows of each are in random order.
    """
    size = min(n_a, n_b // 2)
    parts = rng.permutation(n_b)
    return rng.permutation(n_a)[:size], parts[:size], parts[size:]


def mean_interval(
    values: ArrayLike, resamples: int, rng: np.random.Generator
) -> tuple[float, float]:
    """The 95 % bootstrap interval of a mean. values: (n,)."""
    each = np.asarray(values, dtype=np.float64)
    drawn = [each[rng.integers(len(each), size=len(each))].mean() for _ in range(resamples)]
    return float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))


def interval(
    measure: Callable[..., float],
    sets: tuple[Rows, ...],
    resamples: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """The 95 % bootstrap interval of a measure of sets whose rows are drawn anew.

    Sets with rows drawn twice are less various than they were, which shifts such measures: the
    resampled values are moved so that their mean is the measure's value (Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993, section 10.3).
    """
    value = measure(*sets)
    drawn = [
        measure(*(rows[rng.integers(len(rows), size=len(rows))] for rows in sets))
        for _ in range(resamples)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975]) - np.mean(drawn) + value
    return float(low), float(high)


def _normal(rows: Rows) -> tuple[Floats, Floats]:
    """Mean and covariance."""
    mean = rows.mean(axis=0, dtype=np.float64)
    centred = rows - mean
    return mean, centred.T @ centred / (len(rows) - 1)


def _frechet(mean_a: Floats, cov_a: Floats, mean_b: Floats, cov_b: Floats) -> float:
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    gap = np.square(mean_a - mean_b).sum()
    return max(0.0, float(gap + np.trace(cov_a) + np.trace(cov_b) - 2 * cross))


def _reach(rows: Floats, k: int) -> Floats:
    """(n,) the squared distance of each row's k-th nearest other, and a little more."""
    reach = np.empty(len(rows))
    for part, squares in _squares(rows, rows):
        reach[part] = np.partition(squares, k, axis=1)[:, k] + EQUAL
    return reach


def _squares(x: Floats, y: Floats) -> Iterator[tuple[slice, Floats]]:
    """Squared distances of all rows of x from all of y, a block of x at a time."""
    lengths = np.einsum("ij,ij->i", y, y)
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        own = np.einsum("ij,ij->i", block, block)[:, None]
        yield slice(start, start + len(block)), np.maximum(own + lengths - 2 * block @ y.T, 0)
