"""UPET: atoms and their edges after each layer of a point-edge transformer, then its last layer.

Of each layer: an atom's token and the sum of its edges' tokens, weighted by the cutoff; after the
last of them it is what the package calls `feature`. The layer after them is its
`energy_last_layer_features`, on which the energy is linear.
"""

import copy
import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from ase.geometry import complete_cell
from metatrain.pet import PET
from metatrain.utils.architectures import get_default_hypers
from metatrain.utils.data import DatasetInfo
from metatrain.utils.data.target_info import get_energy_target_info, get_generic_target_info
from metatrain.utils.io import load_model
from vesin import NeighborList

from ingest.families import (
    Outputs,
    Structure,
    sums,
    torch_device,
    verified,
    versions,
    weights_sha256,
)
from ingest.transfer import to_device, to_host

BY_LAYER = ("combination_norms", "combination_mlps", "gnn_layers",
            "gnn_layers_post_mp_node", "gnn_layers_post_mp_edge")  # fmt: skip
DIRECT = {
    "non_conservative_forces": {"quantity": "force", "unit": "eV/A", "rank": 1, "of": "atom"},
    "non_conservative_stress": {
        "quantity": "pressure",
        "unit": "eV/A^3",
        "rank": 2,
        "of": "system",
    },
}


def build_graph(structure: Structure, cutoff: float) -> dict[str, np.ndarray]:
    """Neighbours by the package's own library, as pairs of atoms and cells between them."""
    cell = complete_cell(structure.cell * structure.pbc[:, None])
    pairs, cells = NeighborList(cutoff=cutoff, full_list=True).compute(
        structure.positions, cell, structure.pbc, "PS"
    )
    return {
        "numbers": structure.numbers.astype(np.int64),
        "positions": structure.positions.astype(np.float32),
        "cell": cell.astype(np.float32),
        "pairs": pairs.astype(np.int64),
        "cells": cells.astype(np.int64),
    }


def untrained(card: Mapping[str, Any]) -> PET:
    """The network of a card with random weights, with the heads that published ones have."""
    energy = {"quantity": "energy", "unit": "eV"}
    targets = {"energy": get_energy_target_info("energy", energy, add_position_gradients=True)}
    for name, head in DIRECT.items():
        about = {"type": {"cartesian": {"rank": head["rank"]}}, "sample_kind": head["of"]}
        about |= {"per_atom": head["of"] == "atom", "num_subtargets": 1, "description": ""}
        about |= {"quantity": head["quantity"], "unit": head["unit"]}
        targets[name] = get_generic_target_info(name, about)
    torch.manual_seed(card["seed"])
    return PET(
        get_default_hypers("pet")["model"] | card["architecture"],
        DatasetInfo(length_unit="angstrom", atomic_types=list(card["elements"]), targets=targets),
    )


class Upet:
    """A checkpoint of PET, as metatrain writes it, or its architecture with random weights."""

    def __init__(self, card: Mapping[str, Any], device: str) -> None:
        self.versions = versions(
            "torch", "metatrain", "metatomic-torch", "metatensor-torch", "vesin"
        )
        self.device = torch_device(device)
        if card["seed"] is None:
            self.checkpoint_sha256 = verified(card["checkpoint"], card)
            network = load_model(card["checkpoint"])
            network = getattr(network, "model", network)  # of one that gives uncertainties, too
        else:
            network = untrained(card)
            self.checkpoint_sha256 = weights_sha256(dict(network.named_parameters()))
        if network.long_range or network.system_conditioning is not None:
            raise ValueError("unsupported PET: it has long-range features, or charges and spins")
        if network.featurizer_type != "feedforward":
            raise ValueError(f"unsupported PET: its featurizer is {network.featurizer_type}")
        self.network = network.float().to(self.device).eval().requires_grad_(False)
        self.cutoff = float(network.cutoff)
        # Checkpoints have rows for elements of which their training sets have no atom.
        self.elements = frozenset(network.atomic_types) & frozenset(card["elements"])
        self.last = network.num_gnn_layers
        self.layers = dict.fromkeys(range(self.last), network.d_node + network.d_pet)
        self.layers[self.last] = 2 * network.d_head
        self.graph = partial(build_graph, cutoff=self.cutoff)

    @torch.inference_mode()
    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Runs the package's transformers up to the last wanted."""
        found, _ = self._run(graphs, layers)
        return {layer: to_host(features) for layer, features in found.items()}

    def predict(
        self, graphs: Sequence[Any], layers: Sequence[int], forces: bool
    ) -> tuple[dict[int, np.ndarray], Outputs]:
        """All transformers and the head for energies; forces are by where atoms are."""
        with torch.set_grad_enabled(forces):
            features, tensors = self._run(graphs, [*layers, self.last], forces)
            atoms = self._energies(tensors)
        found = {layer: to_host(features[layer]) for layer in layers}
        energies = sums(atoms, [len(graph["numbers"]) for graph in graphs])
        if not forces:
            return found, Outputs(energies, None)
        (gradient,) = torch.autograd.grad(atoms.sum(), tensors["positions"], allow_unused=True)
        if gradient is None:
            gradient = torch.zeros_like(tensors["positions"])
        return found, Outputs(energies, to_host(-gradient))

    def _run(
        self, graphs: Sequence[Any], layers: Sequence[int], forces: bool = False
    ) -> tuple[dict[int, torch.Tensor], dict[str, Any]]:
        """The features of some layers, and the tensors that the heads read."""
        tensors = self._batch(graphs)
        tensors["positions"].requires_grad_(forces)
        backend = self._up_to(max(layers))
        batch = backend.preprocess(
            **tensors, cutoff_width_adaptive=self.network.cutoff_width_adaptive
        )
        weights = batch["cutoff_factors"][:, :, None]
        kept: list[list[torch.Tensor]] = [[], []]
        places = (backend.gnn_layers_post_mp_node, backend.gnn_layers_post_mp_edge)
        hooks = [
            module.register_forward_hook(lambda _module, _input, output, to=to: to.append(output))
            for modules, to in zip(places, kept, strict=True)
            for module in modules
        ]
        try:
            nodes, edges = backend.calculate_features(batch)
        finally:
            for hook in hooks:
                hook.remove()
        found = {
            layer: torch.cat([node, (edge * weights).sum(1)], 1)
            for layer, (node, edge) in enumerate(zip(*kept, strict=True))
            if layer in layers
        }
        if self.last in layers:
            heads = [backend.node_heads["energy"][0], backend.edge_heads["energy"][0]]
            node, edge = (head(of[0]) for head, of in zip(heads, (nodes, edges), strict=True))
            found[self.last] = torch.cat([node, (edge * weights).sum(1)], 1)
            tensors |= {"node": node, "edge": edge, "weights": weights}
        return found, tensors

    def _energies(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(atoms,), eV: the head, scaled, and what an element's atoms have alone."""
        backend = self.network.backend
        (node,) = backend.node_last_layers["energy"][0].values()
        (edge,) = backend.edge_last_layers["energy"][0].values()
        said = node(tensors["node"]) + (edge(tensors["edge"]) * tensors["weights"]).sum(1)
        scale = self.network.scaler.model.scales["energy"].block().values.to(said)
        composition = self.network.additive_models[0].model
        alone = composition.weights["energy"].block().values.to(said)
        kinds = composition.type_to_index.to(self.device)[tensors["species"]]
        energies: torch.Tensor = (said * scale + alone[kinds])[:, 0].double()
        return energies

    def _up_to(self, layer: int) -> Any:
        """The package's backend without the transformers after a layer."""
        backend = self.network.backend
        if layer >= self.last - 1:
            return backend
        shorter = copy.copy(backend)
        sliced = {name: getattr(backend, name)[: layer + 1] for name in BY_LAYER}
        shorter._modules = backend._modules | sliced
        return shorter

    def _batch(self, graphs: Sequence[Any]) -> dict[str, torch.Tensor]:
        """All structures in one, as the package concatenates them."""
        sizes = [len(graph["numbers"]) for graph in graphs]
        first = itertools.accumulate(sizes, initial=0)
        pairs = np.concatenate([g["pairs"] + i for g, i in zip(graphs, first, strict=False)])
        arrays = {
            "positions": np.concatenate([graph["positions"] for graph in graphs]),
            "centers": pairs[:, 0],
            "neighbors": pairs[:, 1],
            "species": np.concatenate([graph["numbers"] for graph in graphs]),
            "cells": np.stack([graph["cell"] for graph in graphs]),
            "cell_shifts": np.concatenate([graph["cells"] for graph in graphs]),
            "system_indices": np.repeat(np.arange(len(graphs)), sizes),
        }
        return {
            name: to_device(np.ascontiguousarray(array), self.device)
            for name, array in arrays.items()
        }


load = Upet
