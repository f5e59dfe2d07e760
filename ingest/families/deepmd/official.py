"""DeePMD-kit's own calculator, its own descriptors of atoms, and its own head on the last layer."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers
from deepmd.calculator import DP
from deepmd.pt.train.wrapper import ModelWrapper

from ingest.families import Head, Structure, periodic_atoms


@cache
def calculator(model: Any) -> DP:
    """The package's own, with the very weights: it wants them in a file, as training saves them."""
    wrapper = ModelWrapper(model.network, model_params=model.made_from)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        torch.save({"model": wrapper.state_dict()}, path)
        return DP(path)


def features(model: Any, structure: Structure) -> dict[int, np.ndarray]:
    """The last layer: what `dp eval-desc` and `dp embed` write."""
    potential = calculator(model).dp
    atoms = periodic_atoms(structure, model.cutoff)
    types = {name: index for index, name in enumerate(potential.get_type_map())}
    descriptors, _, _ = potential.eval_embedding(
        atoms.positions[None],
        atoms.cell.array.reshape(1, 9),
        [types[name] for name in atoms.get_chemical_symbols()],
    )
    return {max(model.layers): descriptors[0]}


def head(model: Any) -> Head:
    """The package's fitting net, and what it adds for an element."""
    type_of = {atomic_numbers[each]: i for i, each in enumerate(model.made_from["type_map"])}

    @torch.inference_mode()
    def energies(features: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        rows = torch.from_numpy(features).to(model.device)
        types = torch.tensor([type_of[number] for number in numbers.tolist()], device=model.device)
        found: np.ndarray = model.energies(rows, types).cpu().numpy()
        return found

    return energies
