"""Coordination numbers, by a rule that a sentence states.

Two atoms are neighbours if they are nearer than 1.2 times the sum of their covalent radii (Cordero
et al., Dalton Trans. 2832, 2008). Two metals are neighbours only in a crystal without nonmetals:
large cations touch by their radii and are bonded to the anions between them.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import ArrayLike, NDArray

REACH = 1.2  # times the sum of two covalent radii


def coordination_numbers(
    numbers: ArrayLike, positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike
) -> NDArray[np.int64]:
    """How many neighbours each atom has, periodic images included.

    Args:
        numbers: (n,) atomic numbers. positions: (n, 3), Cartesian Å. cell: (3, 3), Å, rows are
            lattice vectors. pbc: (3,) bool.

    Returns:
        (n,) int64.
    """
    z = np.asarray(numbers, dtype=np.int64)
    radii = covalent_radii[z]
    centre, other, _, distance = pairs_within(positions, cell, pbc, float(2 * REACH * radii.max()))
    is_metal, is_nonmetal = _kinds()
    near = (distance > 1e-8) & (distance < REACH * (radii[centre] + radii[other]))
    if is_nonmetal[z].any():
        near &= ~(is_metal[z[centre]] & is_metal[z[other]])
    return np.bincount(centre[near], minlength=len(z))


def pairs_within(
    positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike, radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """All pairs of atoms up to a distance (Å), images included: one, other, image and distance, Å.

    An atom and itself, in no other image, is among them. Arguments as of `coordination_numbers`; a
    lattice vector along which nothing repeats does not count, and may be zero.
    """
    from ase.geometry import complete_cell
    from pymatgen.optimization.neighbors import find_points_in_spheres

    points = np.ascontiguousarray(positions, dtype=np.float64).reshape(-1, 3)
    periodic = np.asarray(pbc, dtype=bool)
    vectors = np.where(periodic[:, None], np.asarray(cell, dtype=np.float64).reshape(3, 3), 0.0)
    one, other, image, distance = find_points_in_spheres(
        points,
        points,
        r=radius,
        pbc=periodic.astype(np.int64),
        lattice=np.ascontiguousarray(complete_cell(vectors)),
        tol=1e-8,
    )
    return one, other, image, distance


@lru_cache(maxsize=1)
def _kinds() -> tuple[NDArray[Any], NDArray[Any]]:
    """Which atomic numbers are metals, and which are neither metals, metalloids nor noble gases."""
    from pymatgen.core.periodic_table import Element

    elements = [Element(symbol) for symbol in chemical_symbols[1:]]
    metals = [one.is_metal for one in elements]
    others = [not (one.is_metal or one.is_metalloid or one.is_noble_gas) for one in elements]
    return np.array([False, *metals]), np.array([False, *others])
