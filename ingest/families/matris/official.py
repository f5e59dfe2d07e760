"""MatRIS's own calculator, and its own head on the last layer."""

from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from matris.applications.base import MatRISCalculator
from matris.model.model import MatRIS

from ingest.families import Head


def calculator(model: Any) -> MatRISCalculator:
    """The package's own, around the very network: it would load one by name."""
    with patch.object(MatRIS, "load", return_value=model.network):
        return MatRISCalculator(task="ef", device=model.device)


def head(model: Any) -> Head:
    """The site's energy, and its element's reference."""
    network = model.network

    @torch.inference_mode()
    def energies(features: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        rows = torch.from_numpy(features).to(model.device)
        sites = network.energy_head.energy_head(rows).view(-1)
        if network.reference_energy is not None:
            sites = sites + network.reference_energy.fc.weight[0, torch.from_numpy(numbers) - 1]
        found: np.ndarray = sites.cpu().numpy()
        return found

    return energies
