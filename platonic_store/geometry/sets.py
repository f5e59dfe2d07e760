"""Crystals as weighted sets of atoms, and the optimal transport distance between them.

A crystal is its distinct atoms, each with a mass: its multiplicity over the number of sites. So a
supercell, or the same crystal in another cell, is the same set. The distance of two sets is

    d(A, B) = min over couplings P of sum_ij P_ij (1 − cos(x_i, y_j)),

the least mean cosine distance at which the atoms of A can be turned into those of B (Peyré and
Cuturi, arXiv 1803.00567, equation 2.11). It is half the squared 2-Wasserstein distance of the unit
vectors: symmetric, zero only for equal sets of directions; its square root obeys the triangle
inequality, it itself does not. Elements play no part: only the embeddings do.
"""

import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from platonic_store.geometry.neighbours import distances, single_precision_error, unit_rows

BLOCK = 16_384  # rows compared with a set at once


def pot() -> Any:
    """The module `ot`, without its other backends: it would import torch, which takes seconds."""
    for backend in ("PYTORCH", "JAX", "CUPY", "TENSORFLOW"):
        os.environ.setdefault(f"POT_BACKEND_DISABLE_{backend}", "1")
    import ot

    return ot


class Sets(NamedTuple):
    """Crystals among the rows of a matrix.

    rows: (m,) the distinct atoms' rows, those of one crystal together; mass: (m,), of each crystal
    one in total; starts: (s + 1,) where in `rows` each crystal begins, and m; label: (s,) a row of
    each crystal, the one that names it.
    """

    rows: NDArray[np.int64]
    mass: NDArray[np.float64]
    starts: NDArray[np.int64]
    label: NDArray[np.int64]


def sets_of(structure: ArrayLike, site: ArrayLike, orbit: ArrayLike) -> Sets:
    """Gather the crystals of a table of atoms, one row a site, in any order.

    Args:
        structure: (n,) integers, the crystal that each atom is of.
        site: (n,) integers, its place there.
        orbit: (n,) integers, the first of the sites that symmetry makes equivalent to it.
    """
    of, first = np.asarray(structure, dtype=np.int64), np.asarray(orbit, dtype=np.int64)
    name = of * (first.max(initial=0) + 1) + first
    rows = np.flatnonzero(np.asarray(site) == first)
    rows = rows[np.argsort(name[rows], kind="stable")]
    multiplicity = np.unique(name, return_counts=True)[1]
    starts = np.flatnonzero(np.diff(of[rows], prepend=-1, append=-1))
    nsites = np.add.reduceat(multiplicity, starts[:-1]) if len(rows) else multiplicity
    mass = multiplicity / np.repeat(nsites, np.diff(starts))
    return Sets(rows, mass, starts, rows[starts[:-1]])


def set_distance(x: ArrayLike, a: ArrayLike, y: ArrayLike, b: ArrayLike) -> float:
    """The transport distance of two sets, exactly, by network simplex (POT's `emd`).

    Args:
        x, y: (p, D) and (q, D), the atoms' vectors; only their directions count.
        a, b: (p,) and (q,), their masses, of each set one in total.

    Returns:
        Between 0 and 2, dimensionless, resolved to about 1e-12.

    Raises:
        ValueError: vectors of different length, or masses that do not fit.
    """
    ot = pot()
    cost, a, b = distances(x, y), np.asarray(a, np.float64), np.asarray(b, np.float64)
    if (len(a), len(b)) != cost.shape or not np.allclose([a.sum(), b.sum()], 1):
        raise ValueError(f"{a.shape} and {b.shape} are not the masses of {cost.shape} atoms")
    if 1 in cost.shape:  # there is only one coupling
        return float(a @ cost @ b)
    return float(ot.emd2(a, b * (a.sum() / b.sum()), cost))


def nearest_sets(
    x: ArrayLike,
    a: ArrayLike,
    vectors: NDArray[np.float32],
    lengths: NDArray[np.float32],
    sets: Sets,
    k: int,
    mask: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k sets nearest to one by transport, exactly, though few transports are solved.

    Sets are compared in the order of their `relaxed` distance, which is never above the true one,
    until it exceeds the k-th best: all others are farther.

    Args:
        x, a: (p, D) and (p,), the query set.
        vectors, lengths: (n, D) float32 and (n,), as in `neighbours.nearest_to_one`.
        sets: which rows are whose.
        k: how many; fewer come back where fewer sets are considered.
        mask: (s,) bool: only sets where it is true are considered.

    Returns:
        indices (min(k, considered),) int64 of the sets, and their distances, rounded to 1e-12; of
        equal ones the smaller index comes first.
    """
    bound = relaxed(x, a, vectors, lengths, sets)
    bound -= 4 * single_precision_error(vectors.shape[1])
    if mask is not None:
        bound[~mask] = np.inf
    found: list[tuple[float, int]] = []
    for index in np.argsort(bound, kind="stable").tolist():
        if bound[index] == np.inf or (len(found) == k and bound[index] > found[-1][0]):
            break
        part = slice(sets.starts[index], sets.starts[index + 1])
        distance = set_distance(x, a, vectors[sets.rows[part]], sets.mass[part])
        found = sorted([*found, (round(distance, 12), index)])[:k]
    return np.array([i for _, i in found], dtype=np.int64), np.array([d for d, _ in found])


def relaxed(
    x: ArrayLike,
    a: ArrayLike,
    vectors: NDArray[np.float32],
    lengths: NDArray[np.float32],
    sets: Sets,
) -> NDArray[np.float64]:
    """(s,) lower bounds of the transport distance of one set from each of many.

    Each atom moves to its nearest of the other set, without regard to that one's mass; from the one
    set to the others or back, whichever costs more (Kusner, Sun, Kolkin and Weinberger, ICML 2015,
    section 4). In single precision; memory is bounded by the largest set.
    """
    queries, mass = unit_rows(x).astype(np.float32), np.asarray(a, dtype=np.float64)
    bound = np.empty(len(sets.label))
    first = 0
    while first < len(bound):
        after = np.searchsorted(sets.starts, sets.starts[first] + BLOCK, side="right") - 1
        after = max(int(after), first + 1)
        part = slice(sets.starts[first], sets.starts[after])
        rows, starts = sets.rows[part], sets.starts[first:after] - sets.starts[first]
        cosine = queries @ vectors[rows].T / np.where(lengths[rows] > 0, lengths[rows], 1)
        there = mass @ np.maximum.reduceat(cosine, starts, axis=1)
        back = np.add.reduceat(sets.mass[part] * cosine.max(axis=0), starts)
        bound[first:after] = 1 - np.minimum(there, back)
        first = after
    return bound
