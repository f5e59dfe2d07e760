"""Nequix's own calculator, and its own head on our last layer."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from nequix.calculator import NequixCalculator
from nequix.torch_impl.model import save_model

from ingest.families import Structure


def calculator(model: Any) -> NequixCalculator:
    """The package's own, with the very weights: it wants them in a file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        save_model(path, model.network, model.config)
        return NequixCalculator(model_path=path, backend="torch", use_kernel=False)


@torch.inference_mode()
def energy(model: Any, structure: Structure) -> float:
    """eV: the sites' energies, scaled and shifted, and those of the elements alone."""
    last, network = max(model.layers), model.network
    graph = model.graph(structure)
    rows = torch.from_numpy(model.embed([graph], [last])[last]).to(model.device)
    sites = network.readout(rows)[:, 0] * network.scale + network.shift
    alone = network.atom_energies[torch.from_numpy(graph["species"]).to(model.device)]
    return float((sites + alone).sum())
