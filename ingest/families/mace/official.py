"""MACE's own ways to what the adapter gives."""

from functools import cache
from typing import Any

import numpy as np
import torch
from ase import Atoms
from mace.calculators import MACECalculator

from ingest.families import Structure


@cache
def calculator(model: Any) -> MACECalculator:
    """The package's ASE calculator, made once for a model."""
    heads = getattr(model.network, "heads", ["Default"])
    return MACECalculator(
        models=[model.network],
        device=model.device,
        default_dtype="float32",
        head=heads[model.head],
    )


def features(model: Any, structure: Structure) -> dict[int, np.ndarray]:
    """`MACECalculator.get_descriptors`: the invariants of all layers, side by side."""
    atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
    descriptors = calculator(model).get_descriptors(atoms)
    layers = sorted(model.layers)
    ends = np.cumsum([model.layers[layer] for layer in layers])[:-1]
    return dict(zip(layers, np.split(descriptors, ends, axis=1), strict=True))


@torch.inference_mode()
def energy(model: Any, structure: Structure) -> float:
    """The package's readouts, of every layer one, on the invariants of that layer."""
    network, layers = model.network, sorted(model.layers)
    graph = model.graph(structure)
    node_attrs, edges, _, lengths = model.batch([graph])
    atoms = torch.arange(len(structure.numbers), device=model.device)
    heads = torch.full_like(atoms, model.head)
    interaction = torch.zeros(len(atoms), device=model.device)
    for layer, scalars in model.embed([graph], layers).items():
        # A readout reads 0e alone, but wants to be given all irreps.
        node_feats = interaction.new_zeros(
            len(atoms), network.products[layer].linear.irreps_out.dim
        )
        node_feats[:, : scalars.shape[1]] = torch.from_numpy(scalars)
        interaction += network.readouts[layer](node_feats, heads)[atoms, heads]
    if hasattr(network, "pair_repulsion"):
        interaction += network.pair_repulsion_fn(lengths, node_attrs, edges, network.atomic_numbers)
    alone = network.atomic_energies_fn(node_attrs)[atoms, heads]
    return float((alone + network.scale_shift(interaction, heads)).double().sum())
