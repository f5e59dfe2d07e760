"""Real embeddings for the geometry: CHGNet's view of the AFLOW prototypes that pymatgen ships."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def real_embeddings(prototypes) -> np.ndarray:
    """(n, 64) float32, every atom of the prototypes with at most 12."""
    small = prototypes.sql("SELECT structure_id FROM structure WHERE nsites <= 12")["structure_id"]
    rows = prototypes.embeddings("chgnet-0.3.0").to_pandas()
    return np.stack(rows["vector"][rows["structure_id"].isin(small)])
