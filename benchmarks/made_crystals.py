"""For concurrency.py and soak.py: random crystals, as many as one likes, each another."""

import ase
import numpy as np


def crystals(count: int, seed: int = 0) -> dict[str, ase.Atoms]:
    """Triclinic crystals of 1 to 6 atoms, none closer than 1.2 Å, by id; always the same."""
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
            found[f"c{seed}-{len(found)}"] = atoms
    return found
