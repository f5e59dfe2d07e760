"""CHGNet's own calculator and atom features, and its own head on the last layer."""

from contextlib import redirect_stdout
from typing import Any

import numpy as np
import torch
from ase import Atoms
from chgnet.model.dynamics import CHGNetCalculator
from pymatgen.io.ase import AseAtomsAdaptor

from ingest.families import Head, Structure


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


def head(model: Any) -> Head:
    """The site's energy, and its element's by the composition model."""
    composition = model._model.composition_model

    @torch.inference_mode()
    def energies(features: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        sites = model._model.mlp(torch.from_numpy(features).to(model.device)).view(-1)
        if composition is not None:
            sites = sites + composition.fc.weight[0, torch.from_numpy(numbers).long() - 1]
        found: np.ndarray = sites.cpu().numpy()
        return found

    return energies
