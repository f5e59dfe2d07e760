"""From atoms to structures: one vector for the atoms of a crystal, in several ways.

All are means over atoms, so a supercell or another cell of a crystal has the same vector, and the
order of atoms plays no part.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from platonic_store.geometry.neighbours import unit_rows

ALIKE = 1e-9  # a cosine distance that is rounding

Floats = NDArray[np.float64]


class Pooling(NamedTuple):
    """A way to one vector from a structure's atoms.

    version: changes whenever the numbers do. meaning: what the vector is, in a few words. blocks:
    it has as many times the numbers of an atom. function: (atoms, numbers, orbits) of all
    structures, sorted by structure, and `_Groups` to the vectors.
    """

    version: int
    meaning: str
    blocks: int
    function: Callable[[Floats, NDArray[np.int64], NDArray[np.int64], "_Groups"], Floats]


class _Groups(NamedTuple):
    """Rows that belong together: where each group starts, and how many rows it has."""

    starts: NDArray[np.int64]
    counts: NDArray[np.int64]

    def mean(self, rows: Floats) -> Floats:
        return np.add.reduceat(rows, self.starts, axis=0) / self.counts[:, None]

    def owner(self) -> NDArray[np.int64]:
        """(n,) the group of each row."""
        return np.repeat(np.arange(len(self.starts)), self.counts)


def pool(
    name: str, atoms: ArrayLike, owner: ArrayLike, numbers: ArrayLike, orbits: ArrayLike = ()
) -> NDArray[np.float32]:
    """One vector for each structure, accumulated in double precision.

    Args:
        name: of a pooling, a key of `POOLINGS`.
        atoms: (n, D), their embeddings or coordinates.
        owner: (n,) integers 0…m-1, each occurring: the structure that each atom is of.
        numbers: (n,) atomic numbers.
        orbits: (n,) the same number for the atoms of a structure that symmetry makes equivalent;
            without it none are.

    Returns:
        (m, blocks x D) float32.

    Raises:
        KeyError: no such pooling. ValueError: as `mean_by_structure`.
    """
    rows, index = np.asarray(atoms), np.asarray(owner)
    if rows.ndim != 2 or index.shape != rows.shape[:1]:
        raise ValueError(f"structure numbers of shape {index.shape} for rows of {rows.shape}")
    pooling = POOLINGS[name]
    if not len(rows):
        return np.empty((0, pooling.blocks * rows.shape[1]), dtype=np.float32)
    elements = np.asarray(numbers, dtype=np.int64)
    orbit = np.asarray(
        orbits if len(np.shape(orbits)) and np.size(orbits) else np.arange(len(rows))
    )
    if (np.diff(index) < 0).any():
        order = np.argsort(index, kind="stable")
        rows, index, elements, orbit = rows[order], index[order], elements[order], orbit[order]
    starts = np.flatnonzero(np.diff(index, prepend=index[0] - 1))
    if not np.array_equal(index[starts], np.arange(len(starts))):
        raise ValueError("structure numbers must be 0…m-1, each with an atom")
    groups = _Groups(starts, np.diff(starts, append=len(rows)))
    return pooling.function(rows.astype(np.float64), elements, orbit, groups).astype(np.float32)


def mean_by_structure(atom_rows: ArrayLike, structure: ArrayLike) -> NDArray[np.float32]:
    """The mean of each structure's atoms: `pool("mean", …)`, for which elements play no part.

    Raises:
        ValueError: lengths differ, or a number below the largest has no atoms.
    """
    return pool("mean", atom_rows, structure, np.zeros(np.shape(structure), dtype=np.int64))


def element_spread(atoms: ArrayLike, numbers: ArrayLike) -> float:
    """The mean cosine distance of two atoms of one element: a unit of a model's own.

    Over all pairs of each element, elements weighted by their atoms. It hardly depends on which
    crystals the atoms are of, so distances in it can be compared between models and stores.

    Args:
        atoms: (n, D). numbers: (n,) atomic numbers.

    Returns:
        NaN where no element has two atoms; 1 where the atoms of each are alike, as by composition
        alone: then there is no unit, and nothing to measure by it.
    """
    rows, elements = unit_rows(atoms), np.asarray(numbers, dtype=np.int64)
    order = np.argsort(elements, kind="stable")
    starts = np.flatnonzero(np.diff(elements[order], prepend=-1))
    counts = np.diff(starts, append=len(order))
    squares = (np.add.reduceat(rows[order], starts, axis=0) ** 2).sum(axis=1)
    several = counts > 1
    if not several.any():
        return float("nan")
    n, total = counts[several], squares[several]
    spread = float(np.average(1 - (total - n) / (n * (n - 1)), weights=n))
    return spread if spread > ALIKE else 1.0


def _mean(atoms: Floats, _: object, __: object, of: _Groups) -> Floats:
    return of.mean(atoms)


def _cumulants(order: int) -> Callable[[Floats, object, object, _Groups], Floats]:
    """Mean, and the roots of the next cumulants, side by side.

    arXiv 2512.05717 concatenates progressive cumulants. The n-th has the n-th power of the
    embedding's unit; its n-th root (with its sign) has the unit itself, so that no block outweighs
    the others because an embedding is large or small.
    """

    def function(atoms: Floats, _: object, __: object, of: _Groups) -> Floats:
        mean = of.mean(atoms)
        apart = atoms - mean[of.owner()]
        blocks = [mean, np.sqrt(of.mean(apart**2))]
        if order > 2:
            blocks.append(np.cbrt(of.mean(apart**3)))
        return np.hstack(blocks)

    return function


def _by_element(atoms: Floats, numbers: NDArray[np.int64], _: object, of: _Groups) -> Floats:
    """Each element's mean times the root of its share, in one vector by signs of its own.

    Without signs the products of two structures' vectors would be sums over all pairs of elements.
    The signs, fixed for each element, leave those of equal elements as they are, weighted by
    sqrt(share of the one x share of the other), and make the others cancel (feature hashing,
    Weinberger et al., arXiv 0902.2206).
    """
    structure = of.owner()
    key = structure * 256 + numbers
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    parts = _Groups(starts, np.diff(starts, append=len(order)))
    first = order[starts]
    share = parts.counts / of.counts[structure[first]]
    signed = parts.mean(atoms[order]) * np.sqrt(share)[:, None]
    signed *= _signs(atoms.shape[1])[numbers[first]]
    firsts = np.flatnonzero(np.diff(structure[first], prepend=-1))
    return np.asarray(np.add.reduceat(signed, firsts, axis=0), dtype=np.float64)


def _signs(dim: int) -> Floats:
    """(256, dim) of 1 and -1, by numpy's legacy generator, whose numbers never change."""
    return np.random.RandomState(0).choice(np.array([-1.0, 1.0]), (dim, 256)).T


def _by_site(atoms: Floats, _: object, orbits: NDArray[np.int64], of: _Groups) -> Floats:
    """The mean over symmetry-distinct sites, each once however many it stands for."""
    structure = of.owner()
    order = np.lexsort((orbits, structure))
    is_first = np.diff(structure[order], prepend=-1) != 0
    is_first |= np.diff(orbits[order], prepend=orbits[order[0]] - 1) != 0
    starts = np.flatnonzero(is_first)
    sites = _Groups(starts, np.diff(starts, append=len(order)))
    owner = structure[order[starts]]
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    return _Groups(first, np.diff(first, append=len(owner))).mean(sites.mean(atoms[order]))


POOLINGS: dict[str, Pooling] = {
    "mean": Pooling(1, "mean over atoms", 1, _mean),
    "cumulants-2": Pooling(1, "mean and standard deviation over atoms", 2, _cumulants(2)),
    "cumulants": Pooling(1, "mean, standard deviation and third-order root", 3, _cumulants(3)),
    "by-element": Pooling(1, "mean of each element, told apart by signs", 1, _by_element),
    "by-site": Pooling(1, "mean over symmetry-distinct sites, each once", 1, _by_site),
}
