"""Orb's own ways to what the adapter gives."""

from functools import partial
from typing import Any

import numpy as np
import torch
from ase import Atoms
from orb_models.forcefield.atomic_system import ase_atoms_to_atom_graphs
from orb_models.forcefield.base import AtomGraphs
from orb_models.forcefield.calculator import ORBCalculator

from ingest.families import Structure


def calculator(model: Any) -> ORBCalculator:
    """The package's ASE calculator."""
    return ORBCalculator(model.regressor, device=model.device)


def graph(model: Any, structure: Structure) -> AtomGraphs:
    """The package's graph, by its own defaults. It refuses a slab."""
    atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
    return ase_atoms_to_atom_graphs(atoms, model.regressor.system_config, device=model.device)


@torch.inference_mode()
def features(model: Any, structure: Structure) -> dict[int, np.ndarray]:
    """The last layer is the package's `node_features`, the others are what its blocks hand on."""
    found: dict[int, np.ndarray] = {}

    def keep(layer: int, _block: object, _inputs: object, output: tuple[torch.Tensor, ...]) -> None:
        found[layer] = output[0].cpu().numpy()

    network = model.regressor.model
    hooks = [
        block.register_forward_hook(partial(keep, layer))
        for layer, block in enumerate(network.gnn_stacks)
    ]
    try:
        last = network(graph(model, structure))["node_features"]
    finally:
        for hook in hooks:
            hook.remove()
    return found | {max(found): last.cpu().numpy()}


@torch.inference_mode()
def energy(model: Any, structure: Structure) -> float:
    """The package's energy head on the last layer, and its pair repulsion."""
    last = max(model.layers)
    nodes = model.embed([model.graph(structure)], [last])[last]
    batch, regressor = graph(model, structure), model.regressor
    attraction = regressor.heads["energy"].predict(torch.from_numpy(nodes).to(model.device), batch)
    return float(attraction + regressor.pair_repulsion_fn(batch)["energy"])
