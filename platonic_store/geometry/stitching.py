"""Zero-shot stitching: a readout fitted to one model's coordinates, applied to another's.

Moschella et al., ICLR 2023, arXiv 2209.15430 (section 5, model stitching); for interatomic
potentials Li and Walsh, arXiv 2512.05349.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

PENALTIES = np.logspace(-8, 1, 19)  # times the mean variance of a column

Array = NDArray[np.float64]


class _Moments(NamedTuple):
    """The moments of rows x and values y that a ridge regression needs; those of sets add up."""

    rows: float
    x: Array  # (D,) sum
    y: Array  # (F,) sum
    xx: Array  # (D, D)
    xy: Array  # (D, F)

    @classmethod
    def of(cls, x: Array, y: Array) -> "_Moments":
        return cls(len(x), x.sum(0), y.sum(0), x.T @ x, x.T @ y)


class Readout(NamedTuple):
    """A linear map: weights (D, F) and offset (F,)."""

    weights: Array
    offset: Array

    def __call__(self, rows: ArrayLike) -> Array:
        """(n, F) values of (n, D) rows."""
        return np.asarray(rows) @ self.weights + self.offset


def readouts(rows: ArrayLike, values: ArrayLike, folds: ArrayLike) -> list[Readout]:
    """For each fold, a ridge regression fitted to the others, its penalty chosen among them.

    Hoerl and Kennard, Technometrics 12, 55 (1970). Columns are centred and not scaled: the recipe
    decides how much a coordinate weighs. The penalty is the largest whose error over the other
    folds is within one standard error of the least (Breiman et al., Classification and Regression
    Trees, 1984, section 3.4.3): a readout of few strong directions is hardly worse for its own
    model, and transfers better to another.

    Args:
        rows: (n, D).
        values: (n, F).
        folds: (n,) int: the fold of each row, 0…k-1, k ≥ 3; below zero: never held out.

    Returns:
        k readouts.

    Raises:
        ValueError: shapes differ, or fewer than three folds.
    """
    x, y, fold = np.asarray(rows, float), np.asarray(values, float), np.asarray(folds)
    if x.ndim != 2 or y.ndim != 2 or not len(x) == len(y) == len(fold):
        raise ValueError(f"rows {x.shape}, values {y.shape} and folds {fold.shape} do not match")
    k = int(fold.max(initial=-1)) + 1
    if k < 3:
        raise ValueError(f"need at least 3 folds, to choose a penalty and to test it, not {k}")
    centre, middle = x.mean(0), y.mean(0)
    x, y = x - centre, y - middle
    parts = [_Moments.of(x[fold == i], y[fold == i]) for i in range(-1, k)]
    found = []
    for out in range(k):
        errors = np.concatenate(
            [
                _squared_errors(
                    _solutions(_added(parts, {out, inner})), x[fold == inner], y[fold == inner]
                )
                for inner in range(k)
                if inner != out
            ]
        )
        chosen = _one_standard_error(errors)
        weights, offset = _solutions(_added(parts, {out}), PENALTIES[[chosen]])[0]
        found.append(Readout(weights, middle + offset - centre @ weights))
    return found


def cross_read(
    learned_on: ArrayLike, fed: Sequence[ArrayLike], values: ArrayLike, folds: ArrayLike
) -> list[Array]:
    """Predictions of `readouts` for their held-out rows, from other matrices of those rows.

    Args:
        learned_on: (n, D), one model's rows.
        fed: matrices (n, D) of the same rows in the same coordinates, e.g. another model's.
        values: (n,), what is predicted.
        folds: (n,) int, as in `readouts`.

    Returns:
        for each of `fed` (n,) float64, NaN for rows that are never held out.

    Raises:
        ValueError: as `readouts`.
    """
    fold = np.asarray(folds)
    readers = readouts(learned_on, np.asarray(values)[:, None], fold)
    read = [np.full(len(fold), np.nan) for _ in fed]
    for i, reader in enumerate(readers):
        for each, found in zip(fed, read, strict=True):
            found[fold == i] = reader(np.asarray(each)[fold == i])[:, 0]
    return read


def decode(anchors: ArrayLike, wanted: ArrayLike, coordinates: ArrayLike, seed: int = 0) -> Array:
    """Another model's features from coordinates, by regression on the anchors.

    The mean of five of `readouts`, each fitted without a fifth of the anchors.

    Args:
        anchors: (K, D), coordinates of the anchors.
        wanted: (K, F), the other model's features of the anchors.
        coordinates: (n, D).
        seed: of the fifths.

    Returns:
        (n, F) float64.

    Raises:
        ValueError: as `readouts`.
    """
    folds = np.random.default_rng(seed).permutation(len(np.asarray(anchors))) % 5
    features = [read(coordinates) for read in readouts(anchors, wanted, folds)]
    return np.asarray(np.mean(features, axis=0))


def r2(
    values: ArrayLike, read: ArrayLike, groups: ArrayLike, *, resamples: int = 500, seed: int = 0
) -> tuple[float, float, float]:
    """The coefficient of determination and its 95 % interval, resampling whole groups.

    1 − Σ(y − ŷ)² / Σ(y − ȳ)²: 1 is perfect, 0 is the score of the values' own mean, and a wrong
    readout scores below 0.

    Args:
        values: (n,).
        read: (n,), the predictions.
        groups: (n,), the group of each row, e.g. its composition.
        resamples: how many bootstrap draws.
        seed: of the draws.

    Returns:
        the score, and the 2.5 % and 97.5 % quantiles of its resamples.
    """
    y, found = np.asarray(values, dtype=float), np.asarray(read, dtype=float)
    y, found = y - y.mean(), found - y.mean()
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.stack([np.bincount(group, part) for part in (y * 0 + 1, y, y**2, (y - found) ** 2)])
    size = sums.shape[1]
    draws = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), resamples)
    count, total, squares, errors = sums @ np.vstack([np.ones(size), draws]).T
    scores = 1 - errors / np.maximum(squares - total**2 / count, np.finfo(float).tiny)
    low, high = np.quantile(scores[1:], [0.025, 0.975])
    return float(scores[0]), float(low), float(high)


def _added(parts: list[_Moments], without: set[int]) -> _Moments:
    """The moments of all folds but some; the first of `parts` is never held out."""
    kept = [part for i, part in enumerate(parts, start=-1) if i not in without]
    return _Moments(*(sum(moments) for moments in zip(*kept, strict=True)))


def _solutions(moments: _Moments, penalties: Array = PENALTIES) -> list[tuple[Array, Array]]:
    """Weights and offset for each penalty."""
    rows, x, y, xx, xy = moments
    x, y = x / rows, y / rows
    eigenvalues, axes = np.linalg.eigh(xx / rows - np.outer(x, x))
    turned = axes.T @ (xy / rows - np.outer(x, y))
    found = []
    for penalty in penalties * max(eigenvalues.mean(), np.finfo(float).tiny):
        weights = axes @ (turned / (np.maximum(eigenvalues, 0) + penalty)[:, None])
        found.append((weights, y - x @ weights))
    return found


def _squared_errors(solutions: list[tuple[Array, Array]], x: Array, y: Array) -> Array:
    """(rows, penalties): of a row, the sum over its values."""
    errors = [np.square(x @ weights + offset - y).sum(1) for weights, offset in solutions]
    return np.stack(errors, axis=1)


def _one_standard_error(errors: Array) -> int:
    """The last column whose mean is within one standard error of the least."""
    mean = errors.mean(0)
    best = int(mean.argmin())
    bound = mean[best] + errors[:, best].std() / np.sqrt(len(errors))
    return int(np.flatnonzero(mean <= bound)[-1])
