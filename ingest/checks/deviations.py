"""How far two embeddings of the same atoms are from each other, and how far they may be."""

import numpy as np

from ingest.families import Model, Structure

TOLERANCE = 1e-4  # of an atom's vector, relative to its norm, float32
ENERGY_TOLERANCE = 1e-4  # eV an atom, float32
FORCE_TOLERANCE = 1e-4  # eV/Å, float32


def vectors(model: Model, structures: list[Structure]) -> dict[int, np.ndarray]:
    """The embeddings of all layers, in one forward pass."""
    return model.embed([model.graph(one) for one in structures], sorted(model.layers))


def deviation(found: dict[int, np.ndarray], wanted: dict[int, np.ndarray]) -> float:
    """The largest difference of an atom's vector, relative to its norm. Asserts `TOLERANCE`."""
    worst = max(
        float(
            np.max(np.linalg.norm(found[i] - wanted[i], axis=1) / np.linalg.norm(wanted[i], axis=1))
        )
        for i in wanted
    )
    assert worst < TOLERANCE, f"deviates by {worst:.2e} of the norm"
    return worst
