"""Typicality: how similar an atom is to reference atoms, according to one model's embeddings.

The score is local and needs no labels. An atom's neighbourhood is its k nearest reference atoms of
the same element in other compositions. Its atypicality is the part of it that their affine hull
does not reconstruct, divided by their own spread. The reconstruction is that of locally linear
embedding (Roweis and Saul, Science 290, 2323, 2000); the comparison with the neighbours' own spread
follows the local outlier factor (Breunig et al., SIGMOD 29(2), 93, 2000).

Typicality is not confidence. It separates random structures from real ones, but says little about a
model's error on structures of the kind it was trained on.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from platonic_store.geometry.neighbours import nearest, unit_rows

NEIGHBOURS = 20  # that make a neighbourhood
NEAREST = 5  # of them, whose distance is averaged
SHARED = 10  # of them, in which models are compared
FEWEST = 5  # atoms of an element; with fewer, atoms of all elements are its neighbours
RIDGE = 0.5  # of the neighbours' variance
FEWEST_OF_CLASS = 99  # calibration scores, for a p-value of 0.01
RESOLUTION = 1e-6  # of unit vectors in single precision
_CELLS = 4_000_000  # of a block of neighbours' vectors, in double precision


class Atoms(NamedTuple):
    """Atoms by their embeddings.

    vectors: (n, D), finite. elements: (n,) integers. groups: (n,) integers, the composition of
    each: atoms of one composition are never each other's neighbours.
    """

    vectors: NDArray[np.floating[Any]]
    elements: NDArray[np.integer[Any]]
    groups: NDArray[np.integer[Any]]

    def take(self, rows: NDArray[np.bool_]) -> "Atoms":
        """The atoms of these rows. rows: (n,) bool, or integers."""
        return Atoms(self.vectors[rows], self.elements[rows], self.groups[rows])


class Scores(NamedTuple):
    """Scores of n atoms by a reference; all but `nearest` (n,) float64.

    atypicality: residual over the neighbours' root mean square distance from their centroid.
    density: the neighbours' spread over their root mean square distance from the atom, within
        [0, 1]: 1 amid them, towards 0 far outside.
    residual: length of the part of the atom's unit vector that the neighbours do not reconstruct.
    distance: mean (1 - cosine) from the nearest few neighbours.
    nearest_distance: 1 - cosine from the nearest.
    nearest: (n, up to `SHARED`) int64, the nearest reference atoms, nearest first, -1 for none.
    """

    atypicality: NDArray[np.float64]
    density: NDArray[np.float64]
    residual: NDArray[np.float64]
    distance: NDArray[np.float64]
    nearest_distance: NDArray[np.float64]
    nearest: NDArray[np.int64]


Neighbours: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def score(atoms: Atoms, reference: Atoms, k: int = NEIGHBOURS) -> Scores:
    """Scores of each atom by its `neighbourhoods`.

    Raises:
        ValueError: fewer than `FEWEST` reference atoms in other compositions than an atom's own.
    """
    n = len(atoms.vectors)
    a, b, c, d, e = np.empty((5, n))
    scores = Scores(a, b, c, d, e, nearest=np.full((n, min(k, SHARED)), -1))
    for rows, index, distance in neighbourhoods(atoms, reference, k):
        found = Scores(
            *_local(unit_rows(atoms.vectors[rows]), unit_rows(reference.vectors[index])),
            distance=distance[:, :NEAREST].mean(1),
            nearest_distance=distance[:, 0],
            nearest=index[:, :SHARED],
        )
        for into, values in zip(scores[:-1], found[:-1], strict=True):
            into[rows] = values
        scores.nearest[rows, : found.nearest.shape[1]] = found.nearest
    return scores


def conformal_p(
    scores: ArrayLike, calibration_scores: ArrayLike, is_member: ArrayLike | bool = False
) -> NDArray[np.float64]:
    """Conformal p-value of each score: (1 + #{calibration ≥ score}) / (1 + n).

    If a score is exchangeable with the calibration's, P(p ≤ α) ≤ α for every α (Vovk, Gammerman
    and Shafer 2005; Bates et al., Ann. Stat. 51, 149, 2023). A small p means atypical. It is no
    confidence in a model's prediction.

    Args:
        scores: (n,), large is atypical.
        calibration_scores: (m,), of typical atoms that are not in the reference.
        is_member: (n,) bool, whether a score is itself one of the calibration's: it is then
            compared with the others.

    Returns:
        (n,) float64 within [1/(1+m), 1].

    Raises:
        ValueError: no calibration scores, or NaN among either.
    """
    values = np.asarray(scores, dtype=np.float64)
    calibration = np.sort(np.asarray(calibration_scores, dtype=np.float64))
    if not len(calibration):
        raise ValueError("a conformal p-value needs calibration scores")
    if np.isnan(values).any() or np.isnan(calibration).any():
        raise ValueError("scores contain NaN")
    at_least = len(calibration) - np.searchsorted(calibration, values, side="left")
    itself = np.asarray(is_member, dtype=int)
    p: NDArray[np.float64] = (1 + at_least - itself) / (1 + len(calibration) - itself)
    return p


def conformal_p_by_class(
    scores: ArrayLike,
    classes: ArrayLike,
    calibration_scores: ArrayLike,
    calibration_classes: ArrayLike,
    is_member: ArrayLike | bool = False,
) -> NDArray[np.float64]:
    """`conformal_p` within each class, e.g. element: uniform for the typical atoms of each.

    That is Mondrian conformal prediction (Vovk, Gammerman and Shafer 2005, section 4.5). For a
    class with fewer than `FEWEST_OF_CLASS` calibration scores those of all classes are used.

    Args:
        scores, classes: (n,). calibration_scores, calibration_classes: (m,). is_member: (n,).

    Returns:
        (n,) float64.
    """
    values, labels = np.asarray(scores, dtype=np.float64), np.asarray(classes)
    calibration, theirs = np.asarray(calibration_scores), np.asarray(calibration_classes)
    members = np.broadcast_to(np.asarray(is_member), values.shape)
    p = np.empty(len(values))
    for label in np.unique(labels):
        rows, own = labels == label, calibration[theirs == label]
        known = own if len(own) >= FEWEST_OF_CLASS else calibration
        p[rows] = conformal_p(values[rows], known, members[rows])
    return p


def neighbourhoods(
    atoms: Atoms, reference: Atoms, k: int, *, fewest: int = FEWEST
) -> Iterator[Neighbours]:
    """Each atom's k nearest reference atoms of its element in other compositions, in blocks.

    Where there are fewer, all of them; where there are not `fewest`, the k nearest of any element.

    Yields:
        rows (q,) of atoms, the reference rows (q, up to k) that are nearest, nearest first, and
        their distances (1 - cosine). Every atom comes once.

    Raises:
        ValueError: as `score`.
    """
    for rows, pool, own in _pools(atoms, reference, k, fewest):
        size = min(k, len(pool) - own)
        block = max(1, _CELLS // ((size + own) * reference.vectors.shape[1]))
        for start in range(0, len(rows), block):
            part = rows[start : start + block]
            index, distance = _others(atoms, reference, part, pool, own, size)
            yield part, pool[index], distance


def _pools(
    atoms: Atoms, reference: Atoms, k: int, fewest: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], int]]:
    """Rows of atoms, the reference rows to search for them, and at most how many are their own.

    "Own" are those of their composition. All of the rows given have the same number of others, or k
    at least.
    """
    for element in np.unique(atoms.elements):
        left = np.flatnonzero(atoms.elements == element)
        for is_one in (reference.elements == element, np.ones(len(reference.elements), bool)):
            if not len(left):
                break
            pool = np.flatnonzero(is_one)
            own = _counts(atoms.groups[left], reference.groups[pool])
            enough = len(pool) - own >= fewest
            most = _rounded_up(own, len(pool) - k)
            for count in np.unique(most[enough]):
                yield left[enough & (most == count)], pool, int(count)
            left = left[~enough]
        if len(left):
            raise ValueError(f"fewer than {fewest} reference atoms in other compositions")


def _rounded_up(counts: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Counts as the next of 0, 8, 16, 32, …, but none beyond a limit that was within it.

    To search for each count by itself would take longer than to find a few more.
    """
    steps = np.concatenate([[0], 8 << np.arange(40)])
    rounded = steps[np.searchsorted(steps, counts)]
    return np.where(counts <= limit, np.minimum(rounded, limit), counts)


def _counts(
    groups: NDArray[np.integer[Any]], others: NDArray[np.integer[Any]]
) -> NDArray[np.int64]:
    """How often each group occurs among others."""
    ordered = np.sort(others)
    return np.searchsorted(ordered, groups, "right") - np.searchsorted(ordered, groups, "left")


def _others(
    atoms: Atoms,
    reference: Atoms,
    rows: NDArray[np.int64],
    pool: NDArray[np.int64],
    own: int,
    size: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The `size` nearest of the pool in other compositions: positions in it, and distances."""
    is_all = len(pool) == len(reference.vectors)  # then they need not be copied
    points = reference.vectors if is_all else reference.vectors[pool]
    index, distance = nearest(atoms.vectors[rows], points, size + own)
    if own:
        # However many of its own come first, size + own nearest hold at least `size` others.
        is_own = reference.groups[pool[index]] == atoms.groups[rows, None]
        first = np.argsort(is_own, axis=1, kind="stable")[:, :size]
        index = np.take_along_axis(index, first, axis=1)
        distance = np.take_along_axis(distance, first, axis=1)
    return index, distance


def _local(
    points: NDArray[np.float64], neighbours: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Atypicality, density and residual of (n, D) unit vectors amid (n, k, D) neighbours."""
    centre = neighbours.mean(1)
    offsets, gap = neighbours - centre[:, None], points - centre
    gram = offsets @ offsets.transpose(0, 2, 1)
    variance = np.maximum(np.trace(gram, axis1=1, axis2=2) / gram.shape[1], RESOLUTION**2)
    gram += (RIDGE * variance)[:, None, None] * np.eye(gram.shape[1])
    weights = np.linalg.solve(gram, offsets @ gap[:, :, None])
    residual = np.linalg.norm(gap - (offsets.transpose(0, 2, 1) @ weights)[..., 0], axis=1)
    spread = np.sqrt(variance)
    density = spread / np.sqrt(variance + np.square(gap).sum(1))
    return residual / spread, density, residual
