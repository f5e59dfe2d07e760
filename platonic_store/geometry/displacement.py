"""How far a model's embedding of each atom is from where another's would put it."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def displacement(parent: ArrayLike, child: ArrayLike, groups: ArrayLike, seed: int = 0) -> Array:
    """How far each row of `child` is from the same row of `parent`, turned and scaled as a whole.

    The turn and the scale are those of orthogonal Procrustes (Schönemann, Psychometrika 31, 1,
    1966), fitted to one half of the groups and applied to the other, both ways.

    Args:
        parent: (n, D). child: (n, E), the same rows.
        groups: (n,), such as structures: rows of one are never on both sides.
        seed: of the halves.

    Returns:
        (n,), in units of the root mean square distance of `child` from its mean: 0 where nothing
        moved; with nothing in common about 1.

    Raises:
        ValueError: fewer than two groups.
    """
    found = np.empty(len(np.asarray(child)))
    for rows, wanted, there in _held_out(parent, child, groups, seed):
        found[rows] = np.linalg.norm(wanted - there, axis=1)
    return found


def displacement_if_shuffled(
    parent: ArrayLike,
    child: ArrayLike,
    groups: ArrayLike,
    kinds: ArrayLike,
    *,
    shuffles: int = 20,
    seed: int = 0,
) -> Array:
    """(n,): the same, where rows of one kind (elements, say) are shuffled: a mean over shuffles.

    Arguments and errors as of `displacement`; kinds: (n,). Rows that are alone of their kind in
    their half stay.
    """
    kind = np.unique(np.asarray(kinds), return_inverse=True)[1]
    rng, found = np.random.default_rng(seed), np.zeros(len(kind))
    for rows, wanted, there in _held_out(parent, child, groups, seed):
        for _ in range(shuffles):
            order = np.empty(len(rows), np.int64)
            # Sorted by kind, and within it as they are and at random.
            order[np.argsort(kind[rows], kind="stable")] = np.lexsort(
                (rng.random(len(rows)), kind[rows])
            )
            found[rows] += np.linalg.norm(wanted - there[order], axis=1) / shuffles
    return found


def _held_out(
    parent: ArrayLike, child: ArrayLike, groups: ArrayLike, seed: int
) -> Iterator[tuple[NDArray[np.int64], Array, Array]]:
    """Of each half its rows, and where child and parent have them, turned by the other half."""
    x, y = np.asarray(parent, np.float64), np.asarray(child, np.float64)
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise ValueError("need at least two groups")
    half = np.random.default_rng(seed).permutation(len(names)) % 2
    spread = np.sqrt(((y - y.mean(0)) ** 2).sum(1).mean()) or 1.0
    for side in (0, 1):
        is_out = half[group] == side
        turn, from_, to = _procrustes(x[~is_out], y[~is_out])
        rows = np.flatnonzero(is_out)
        yield rows, (y[rows] - to) / spread, (x[rows] - from_) @ turn / spread


def _procrustes(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """The turn times the scale (D, E), and both means."""
    from_, to = x.mean(0), y.mean(0)
    u, values, v = np.linalg.svd((x - from_).T @ (y - to), full_matrices=False)
    scale = values.sum() / max(((x - from_) ** 2).sum(), 1e-300)
    return scale * u @ v, from_, to
