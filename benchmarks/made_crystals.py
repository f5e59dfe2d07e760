"""For concurrency.py, soak.py and the tests: random crystals, as many as one likes."""

import ase
import numpy as np


def crystals(count: int, seed: int = 0, prefix: str = "c") -> dict[str, ase.Atoms]:
    """Random triclinic crystals of 1 to 6 atoms, none closer than 1.2 Å; ids "c0" and on."""
    rng = np.random.default_rng(seed)
    found: dict[str, ase.Atoms] = {}
    while len(found) < count:
        cell = np.diag(rng.uniform(4, 7, 3)) + rng.uniform(-0.8, 0.8, (3, 3))
        size = int(rng.integers(1, 7))
        atoms = ase.Atoms(
            rng.integers(1, 80, size), scaled_positions=rng.random((size, 3)), cell=cell, pbc=True
        )
        near = atoms.get_all_distances(mic=True)[np.triu_indices(size, 1)]
        if not near.size or near.min() > 1.2:
            atoms.info["gap"] = round(float(rng.uniform(0, 3)), 3)
            found[f"{prefix}{len(found)}"] = atoms
    return found
