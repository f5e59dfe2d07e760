"""What makes a crystal unusable, and what symmetry it has."""

import logging
from functools import lru_cache

import moyopy
import numpy as np

from platonic_store.structures.records import Crystal

MIN_DISTANCE = 0.1  # Å; atoms closer than this overlap
FEW = 64  # atoms, of which all pairs are as quick to try as a tree is to build
MAX_LENGTH = 1e9  # Å; beyond it the content hash would overflow
SYMPREC = 0.01  # Å

# It warns of every supercell that orbits are the infinite crystal's, which is what is wanted here.
logging.getLogger("moyo").setLevel(logging.ERROR)


def fault(crystal: Crystal) -> str | None:
    """Why this crystal cannot be embedded, in one line; None if it can."""
    if len(crystal.numbers) == 0:
        return "no atoms"
    for name, values in (("positions", crystal.positions), ("cell", crystal.cell)):
        if not np.isfinite(values).all():
            return f"NaN or infinite {name}"
        if np.abs(values).max() > MAX_LENGTH:
            return f"{name} beyond {MAX_LENGTH:.0e} Å"
    unknown = (crystal.numbers < 1) | (crystal.numbers > 118)
    if unknown.any():
        site = int(unknown.argmax())
        return f"unknown element at site {site} (atomic number {crystal.numbers[site]})"
    vectors = crystal.cell[crystal.pbc]
    if np.linalg.det(vectors @ vectors.T) < MIN_DISTANCE ** (2 * len(vectors)):
        return "the unit cell has no volume"
    return _overlap(crystal)


def _overlap(crystal: Crystal) -> str | None:
    """The first pair of atoms closer than MIN_DISTANCE, periodic images included.

    A sphere of radius r lies inside the fractional sphere of radius r·‖cell⁻¹‖₂, so a periodic
    k-d tree in fractional space finds every candidate, as long as that radius is below one half.
    The Frobenius norm is at least as large, and faster.
    """
    cell = _full_cell(crystal.cell, crystal.pbc)
    inverse = np.linalg.inv(cell)
    radius = MIN_DISTANCE * np.linalg.norm(inverse)
    if radius >= 0.5:
        from ase.geometry import minkowski_reduce

        cell = minkowski_reduce(cell, crystal.pbc)[0]
        inverse = np.linalg.inv(cell)
        radius = MIN_DISTANCE * np.linalg.norm(inverse, 2)
        if radius >= 0.5:
            return "the unit cell is thinner than the distance at which atoms overlap"
    fractional = crystal.positions @ inverse
    wrapped = fractional - np.floor(fractional)
    wrapped[wrapped >= 1] = 0
    inside = np.where(crystal.pbc, wrapped, fractional)
    pairs = _pairs(len(inside)) if len(inside) <= FEW else _near(inside, float(radius), crystal.pbc)
    if len(pairs) == 0:
        return None
    difference = inside[pairs[:, 0]] - inside[pairs[:, 1]]
    difference -= np.rint(difference) * crystal.pbc
    distances = np.linalg.norm(difference @ cell, axis=1)
    nearest = int(distances.argmin())
    if distances[nearest] >= MIN_DISTANCE:
        return None
    first, second = pairs[nearest]
    return f"overlapping atoms: sites {first} and {second} are {distances[nearest]:.3f} Å apart"


@lru_cache
def _pairs(count: int) -> np.ndarray:
    """(P, 2): all pairs of so many."""
    return np.column_stack(np.triu_indices(count, 1))


def _near(inside: np.ndarray, radius: float, pbc: np.ndarray) -> np.ndarray:
    """(P, 2): pairs at most a radius apart, in fractional coordinates."""
    from scipy.spatial import cKDTree

    tree = cKDTree(inside, boxsize=pbc.astype(float))
    pairs: np.ndarray = tree.query_pairs(radius, output_type="ndarray")
    return pairs


def _full_cell(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """The periodic vectors, completed with unit vectors normal to them; (3, 3) Å."""
    if pbc.all():
        return cell
    from ase.geometry import complete_cell

    return np.asarray(complete_cell(np.where(pbc[:, None], cell, 0.0)))


def volume(crystal: Crystal) -> float | None:
    """Å³ of the unit cell; None unless periodic in three dimensions."""
    return abs(float(np.linalg.det(crystal.cell))) if crystal.pbc.all() else None


def symmetry(crystal: Crystal) -> tuple[int | None, np.ndarray]:
    """Space group number, and for each site the smallest index of an equivalent site, (N,) int32.

    From moyopy (spglib's successor, eight times as fast) at SYMPREC. The orbits are those of the
    infinite crystal, also where a supercell's shape has less symmetry. None and the identity
    where no symmetry is known.
    """
    count = len(crystal.numbers)
    if not crystal.pbc.all():
        return None, np.arange(count, dtype=np.int32)
    fractional = crystal.positions @ np.linalg.inv(crystal.cell)
    cell = moyopy.Cell(crystal.cell.tolist(), fractional.tolist(), crystal.numbers.tolist())
    try:
        found = moyopy.MoyoDataset(cell, symprec=SYMPREC)
    except ValueError:
        return None, np.arange(count, dtype=np.int32)
    orbits, places = np.asarray(found.orbits), np.arange(count, dtype=np.int32)
    first = np.empty(count, np.int32)
    first[orbits[::-1]] = places[::-1]  # of an orbit's sites the first is written last
    return int(found.number), first[orbits]
