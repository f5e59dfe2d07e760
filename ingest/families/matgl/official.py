"""MatGL's own calculator and layer features, and its own head on the last layer."""

import logging
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers
from matgl.ext.ase import PESCalculator
from matgl.utils.maths import decompose_tensor, tensor_norm

from ingest.families import Head, Structure

logging.getLogger("matgl.ext.ase").setLevel(logging.ERROR)  # it warns of its default unit of stress


def calculator(model: Any) -> PESCalculator:
    """The package's own, around the very network."""
    return PESCalculator(model.potential)


@torch.inference_mode()
def features(model: Any, structure: Structure) -> dict[int, np.ndarray]:
    """What `feature_dict` holds after a forward: TensorNet's tensors as its readout reads them."""
    atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
    graph, lattice, _ = model.graph.keywords["convert"].get_graph(atoms)
    graph.pos = graph.frac_coords @ lattice[0]
    graph.pbc_offshift = graph.pbc_offset @ lattice[0]
    network = model.potential.model
    network(graph.to(model.device))
    found = {}
    for layer in model.layers:
        block = network.feature_dict[f"gc_{layer + 1}"]
        if isinstance(block, dict):
            found[layer] = block["node_feat"]
        elif layer == max(model.layers):
            found[layer] = network.feature_dict["readout"]
        else:
            found[layer] = torch.cat([tensor_norm(each) for each in decompose_tensor(block)], -1)
    return {layer: rows.cpu().numpy() for layer, rows in found.items()}


def head(model: Any) -> Head:
    """The site's energy, scaled, and its element's alone.

    Raises ValueError where the package shifts a structure's energy as a whole.
    """
    potential = model.potential
    if float(potential.data_mean):
        raise ValueError("the package shifts the energy of a structure as a whole")
    known = np.array([atomic_numbers[symbol] for symbol in potential.model.element_types])
    order = np.argsort(known)

    @torch.inference_mode()
    def energies(features: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        rows = torch.from_numpy(features).to(model.device)
        sites = potential.data_std * potential.model.final_layer(rows).view(-1)
        if potential.element_refs is not None:
            kinds = torch.from_numpy(order[np.searchsorted(known, numbers, sorter=order)])
            sites = sites + potential.element_refs.property_offset[kinds]
        found: np.ndarray = sites.cpu().numpy()
        return found

    return energies
