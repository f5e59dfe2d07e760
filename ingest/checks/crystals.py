"""The crystals that the checks use."""

from itertools import product

import numpy as np

from ingest.families import Structure

PERIODIC = np.ones(3, dtype=bool)


def crystals() -> list[Structure]:
    """A symmetric, a distorted and an elemental crystal, a slab and a sparse crystal.

    Of Na, Cl, Sr, Ti, O and Si. The distorted one is not its own mirror image; in the sparse one no
    two atoms are within 3 Å.
    """
    rng = np.random.default_rng(7)
    halves = np.array(list(product((0.0, 0.5), repeat=3)))
    rocksalt = np.where(halves.sum(1) % 1 == 0, 11, 17)
    perovskite = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    cell = np.array([[3.9, 0.1, 0], [0, 3.95, 0.2], [0.1, 0, 4.1]])
    diamond = np.array([[0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 0]])
    centred = np.ones((3, 3)) / 2 - np.eye(3)
    shaken = perovskite @ cell + rng.normal(0, 0.08, (5, 3))
    return [
        Structure("NaCl", rocksalt, halves * 5.6, np.eye(3) * 5.6, PERIODIC),
        Structure("SrTiO3", np.array([38, 22, 8, 8, 8]), shaken, cell, PERIODIC),
        Structure("Si", np.array([14, 14]), np.array([[0, 0, 0], [1.35] * 3]), diamond, PERIODIC),
        Structure("slab", rocksalt, halves * 5.6, np.eye(3) * 5.6, np.array([True, True, False])),
        Structure("Na", np.array([11]), np.zeros((1, 3)), centred * 4.3, PERIODIC),
    ]


def repeated(one: Structure, times: tuple[int, int, int]) -> Structure:
    """A supercell: all atoms of the first copy come first."""
    shifts = np.array(list(product(*map(range, times)))) @ one.cell
    return Structure(
        one.id,
        np.tile(one.numbers, len(shifts)),
        (one.positions + shifts[:, None]).reshape(-1, 3),
        one.cell * np.array(times)[:, None],
        one.pbc,
    )
