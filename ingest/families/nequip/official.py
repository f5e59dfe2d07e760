"""NequIP's own calculator, and the features that its modules hand on meanwhile."""

from functools import partial
from typing import Any

import numpy as np
from ase import Atoms
from nequip.integrations.ase import NequIPCalculator
from nequip.integrations.utils import basic_transforms

from ingest.families import Structure


def calculator(model: Any) -> NequIPCalculator:
    """The package's ASE calculator, as it makes it of a saved model."""
    names = model.network.type_names
    metadata = model.network.metadata
    transforms = basic_transforms(metadata, model.cutoff, names, {name: name for name in names})
    return NequIPCalculator(model.network, model.device, transforms=transforms)


def features(model: Any, structure: Structure) -> dict[int, np.ndarray]:
    """What leaves each convolution; Allegro's edges, summed by the package's own module."""
    modules, found = model.modules, {}

    def keep(layer: int, module: Any, _inputs: Any, output: dict[str, Any]) -> None:
        irreps = module.irreps_out["node_features"]
        parts = [
            output["node_features"][:, place].detach().clone()
            for (_, irrep), place in zip(irreps, irreps.slices(), strict=True)
            if str(irrep) == "0e"
        ]
        found[layer] = np.concatenate([part.cpu().numpy() for part in parts], axis=1)

    names = [name for name in modules if name.endswith("_convnet")]
    hooks = [modules[n].register_forward_hook(partial(keep, i)) for i, n in enumerate(names)]
    atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
    ase = calculator(model)
    try:
        output = ase.call_model(ase.atoms_to_data(atoms))
    finally:
        for hook in hooks:
            hook.remove()
    return found or edges_by_layer(model, output)


def edges_by_layer(model: Any, output: dict[str, Any]) -> dict[int, np.ndarray]:
    """Allegro's `edge_features`, summed over an atom's edges by the package."""
    reduce = model.modules["edge_eng_sum"]
    reduce.field, reduce.out_field = "edge_features", "summed"
    try:
        summed = reduce(dict(output))["summed"].detach().cpu().numpy()
    finally:
        reduce.field, reduce.out_field = "edge_energy", "atomic_energy"
    width = model.layers[0]
    return {layer: summed[:, (layer + 1) * width : (layer + 2) * width] for layer in model.layers}
