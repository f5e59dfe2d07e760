"""Real embeddings for the geometry: CHGNet's view of the AFLOW prototypes that pymatgen ships."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def real_embeddings() -> np.ndarray:
    """(n, 64) float32, every atom of the prototypes with at most 12 and an element CHGNet knows."""
    chgnet = pytest.importorskip("chgnet.model", reason="needs chgnet (extra 'models')")
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY

    structures = [entry["snl"].structure for entry in AFLOW_PROTOTYPE_LIBRARY]
    small = [s for s in structures if len(s) <= 12 and max(s.atomic_numbers) <= 94]
    predictions = chgnet.CHGNet.load(use_device="cpu", verbose=False).predict_structure(
        small, task="e", return_atom_feas=True, batch_size=32
    )
    return np.concatenate([prediction["atom_fea"] for prediction in predictions])
