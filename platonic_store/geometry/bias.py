"""Bias: where one model's neighbourhoods differ from those of all others."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESOLUTION = 1e-6  # of distances between vectors in single precision


class Effects(NamedTuple):
    """How g groups differ from all values; all (g,) float64.

    effect: mean of the group's values less the mean of all, in standard deviations of all values.
    p: how often a random group of its size is as far from the mean, on either side.
    p_any: how often any of the groups is, were all random: p adjusted for the number of groups.
    """

    effect: NDArray[np.float64]
    p: NDArray[np.float64]
    p_any: NDArray[np.float64]


def overlap(one: ArrayLike, other: ArrayLike) -> NDArray[np.float64]:
    """Share of each row's k neighbours that two models have in common: (n, k), (n, k) to (n,)."""
    a, b = np.asarray(one), np.asarray(other)
    shared: NDArray[np.float64] = (a[:, :, None] == b[:, None, :]).any(2).mean(1)
    return shared


def deviation(
    neighbours: Sequence[NDArray[np.int64]], which: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of each row's neighbours that one model has in common with the others, and they with
    one another.

    Args:
        neighbours: each model's (n, k), at least two models.
        which: the model in question.

    Returns:
        (n,) mean overlap with the others, and (n,) mean overlap of the pairs of others: where the
        model deviates, the first is the smaller. The second is NaN with two models.
    """
    others = [rows for i, rows in enumerate(neighbours) if i != which]
    own = np.mean([overlap(neighbours[which], rows) for rows in others], axis=0)
    pairs = [overlap(a, b) for i, a in enumerate(others) for b in others[:i]]
    return own, np.mean(pairs, axis=0) if pairs else np.full(len(own), np.nan)


def group_effects(
    values: ArrayLike, members: ArrayLike, *, permutations: int = 999, seed: int = 0
) -> Effects:
    """Whether the values of groups differ from all values by more than chance.

    The null permutes the values over the rows; p_any compares with the largest effect of each
    permutation (Westfall and Young, Resampling-Based Multiple Testing, 1993), each group's mean
    measured by its own standard error.

    Args:
        values: (n,).
        members: (g, n) bool, each group with a member.
        permutations: of the null.
        seed: of the permutations.
    """
    x, groups = np.asarray(values, dtype=np.float64), np.asarray(members, dtype=np.float64)
    rng = np.random.default_rng(seed)
    standard = (x - x.mean()) / (x.std() or 1)
    sizes = groups.sum(1)
    error = np.sqrt(np.maximum(1 / sizes - 1 / len(x), 1 / len(x) ** 2))
    effect = groups @ standard / sizes
    shuffled = np.stack([rng.permutation(standard) for _ in range(permutations)], axis=1)
    null = np.abs(groups @ shuffled / sizes[:, None]) / error[:, None]
    seen = np.abs(effect) / error - 1e-9  # equal but for rounding is as far
    return Effects(
        effect,
        (1 + (null >= seen[:, None]).sum(1)) / (1 + permutations),
        (1 + (null.max(0) >= seen[:, None]).sum(1)) / (1 + permutations),
    )


def mutual_pairs(neighbours: NDArray[np.int64]) -> NDArray[np.int64]:
    """(m, 2) pairs of rows that are each among the other's neighbours, the smaller row first."""
    n, k = neighbours.shape
    ends = np.c_[np.repeat(np.arange(n), k), neighbours.ravel()]
    code, back = ends @ [n, 1], ends @ [1, n]
    is_mutual = np.isin(code, back) & (ends[:, 0] < ends[:, 1])
    return np.asarray(ends[is_mutual])


def closeness(
    points: ArrayLike, pairs: ArrayLike, nearest_distances: ArrayLike
) -> NDArray[np.float64]:
    """(m,) distance (1 - cosine) of pairs of rows, in units of the usual nearest distance.

    Args:
        points: (n, D). pairs: (m, 2) rows. nearest_distances: (n,) of each row's nearest other,
            whose median is the unit.
    """
    ends = np.asarray(points)[np.asarray(pairs)].astype(np.float64)
    dot, aa, bb = (
        np.einsum("ij,ij->i", ends[:, i], ends[:, j]) for i, j in ((0, 1), (0, 0), (1, 1))
    )
    distance: NDArray[np.float64] = 1 - dot / np.maximum(np.sqrt(aa * bb), 1e-300)
    usual = max(float(np.median(np.asarray(nearest_distances))), RESOLUTION)
    return np.divide(np.maximum(distance, RESOLUTION), usual)
