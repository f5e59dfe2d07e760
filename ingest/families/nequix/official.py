"""Nequix's own calculator, and its own head on the last layer."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from nequix.calculator import NequixCalculator
from nequix.data import atomic_numbers_to_indices
from nequix.torch_impl.model import save_model

from ingest.families import Head


def calculator(model: Any) -> NequixCalculator:
    """The package's own, with the very weights: it wants them in a file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        save_model(path, model.network, model.config)
        return NequixCalculator(model_path=path, backend="torch", use_kernel=False)


def head(model: Any) -> Head:
    """The site's energy, scaled and shifted, and its element's alone."""
    network = model.network
    kind_of = atomic_numbers_to_indices(model.config["atomic_numbers"])

    @torch.inference_mode()
    def energies(features: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        sites = network.readout(torch.from_numpy(features).to(model.device))[:, 0]
        elements = network.atom_energies[[kind_of[number] for number in numbers.tolist()]]
        found: np.ndarray = (sites * network.scale + network.shift + elements).cpu().numpy()
        return found

    return energies
