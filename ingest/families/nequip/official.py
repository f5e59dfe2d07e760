"""NequIP's own calculator, and the features that its modules hand on meanwhile."""

import copy
from functools import cache, partial
from typing import Any

import numpy as np
from ase import Atoms
from nequip.integrations.ase import NequIPCalculator
from nequip.integrations.utils import basic_transforms

from ingest.families import Structure


@cache
def network(model: Any) -> Any:
    """The network as the package has it: without what the adapter does otherwise."""
    whole = copy.deepcopy(model.network)
    if hasattr(whole.model.func, "allegro"):
        for product in whole.model.func.allegro.tps:
            for name in ("_contract", "_contract_conv"):
                vars(product).pop(name, None)
    return whole


def calculator(model: Any) -> NequIPCalculator:
    """The package's ASE calculator, as it makes it of a saved model."""
    names, metadata = model.network.type_names, model.network.metadata
    transforms = basic_transforms(metadata, model.cutoff, names, {name: name for name in names})
    return NequIPCalculator(network(model), model.device, transforms=transforms)


def features(model: Any, structure: Structure) -> dict[int, np.ndarray]:
    """What leaves each convolution; Allegro's edges, summed by the package's own module."""
    modules = dict(network(model).model.func.named_children())
    found: dict[int, np.ndarray] = {}

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
    return found or edges_by_layer(model, modules["edge_eng_sum"], output)


def edges_by_layer(model: Any, reduce: Any, output: dict[str, Any]) -> dict[int, np.ndarray]:
    """Allegro's `edge_features`, summed over an atom's edges by the package."""
    reduce.field, reduce.out_field = "edge_features", "summed"
    try:
        summed = reduce(dict(output))["summed"].detach().cpu().numpy()
    finally:
        reduce.field, reduce.out_field = "edge_energy", "atomic_energy"
    width = model.layers[0]
    return {layer: summed[:, (layer + 1) * width : (layer + 2) * width] for layer in model.layers}
