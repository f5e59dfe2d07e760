"""CHGNet's own calculator and atom features, and its own head on our last layer."""

from contextlib import redirect_stdout
from typing import Any

import numpy as np
import torch
from ase import Atoms
from chgnet.model import CHGNetCalculator
from pymatgen.io.ase import AseAtomsAdaptor

from ingest.families import Structure


def calculator(model: Any) -> CHGNetCalculator:
    """The package's own, around the very network."""
    with redirect_stdout(None):
        return CHGNetCalculator(model._model, use_device=model.device, on_isolated_atoms="error")


def features(model: Any, structure: Structure) -> dict[int, np.ndarray]:
    """What `return_atom_feas` returns: the features before the last convolution."""
    atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
    crystal = AseAtomsAdaptor.get_structure(atoms)
    found = model._model.predict_structure(crystal, task="e", return_atom_feas=True)
    return {len(model.layers) - 2: found["atom_fea"]}


@torch.inference_mode()
def energy(model: Any, structure: Structure) -> float:
    """eV: the mean of the sites' energies, and the composition's, both for an atom."""
    last = max(model.layers)
    graph = model.graph(structure)
    features = torch.from_numpy(model.embed([graph], [last])[last]).to(model.device)
    sites = model._model.mlp(features)
    composition = model._model.composition_model
    shift = composition([model._crystal_graph(graph)]).item() if composition else 0.0
    return float(sites.sum()) + shift * len(sites)
