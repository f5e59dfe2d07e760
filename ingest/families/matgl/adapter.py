"""MatGL: an atom's invariants after each interaction of a TensorNet or M3GNet.

The cards' weights are from before matgl 3, which reversed the direction of messages: they were
summed at an edge's end, and are now at its start. As every edge has its reverse, `converted`
weights give the numbers of matgl 2.1 (to 6e-6): the two ends of an edge are exchanged, and what is
odd in its direction changes sign.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from matgl.apps.pes import Potential
from matgl.ext.ase import Atoms2Graph

from ingest.families import (
    Outputs,
    Structure,
    asked,
    disjoint,
    outputs_of_edges,
    part,
    periodic_atoms,
    torch_device,
    verified,
    versions,
    weights_sha256,
)
from ingest.transfer import to_host

POINTS_INTO = {"start": "node_type", "end": "node_type", "of_edge": "distances"}


def build_graph(structure: Structure, convert: Atoms2Graph) -> dict[str, np.ndarray]:
    """The package's own edges, their vectors, and the distances that occur (to 1e-6 Å)."""
    atoms = periodic_atoms(structure, convert.cutoff)
    graph, _, _ = convert.get_graph(atoms)
    start, end = graph.edge_index.numpy().astype(np.int64)
    shifts = graph.pbc_offset.numpy() @ atoms.cell.array
    vectors = atoms.positions[end] + shifts - atoms.positions[start]
    distances, of_edge = np.unique(np.linalg.norm(vectors, axis=1).round(6), return_inverse=True)
    return {
        "node_type": graph.node_type.numpy(),
        "start": start,
        "end": end,
        "vectors": vectors.astype(np.float32),
        "distances": distances.astype(np.float32),
        "of_edge": of_edge,
    }


def batch(graphs: Sequence[Mapping[str, np.ndarray]], device: str) -> SimpleNamespace:
    """One disjoint graph of all."""
    return SimpleNamespace(**disjoint(graphs, POINTS_INTO, device))


def potential(card: Mapping[str, Any], network: ModuleType) -> tuple[Potential, str]:
    """The potential of a card, trained or initialised at random, and its weights' SHA-256."""
    symbols = tuple(chemical_symbols[number] for number in sorted(card["elements"]))
    arguments = {key: value for key, value in card["architecture"].items() if key != "network"}
    if card["seed"] is not None:
        torch.manual_seed(card["seed"])
        found = Potential(network.build(symbols, **arguments))
        return found, weights_sha256(dict(found.model.named_parameters()), found.model.state_dict())
    sha256 = verified(card["checkpoint"], card)
    state = torch.load(card["checkpoint"], map_location="cpu", weights_only=True)
    del state["element_refs.onehot"]  # the identity, which newer versions do without
    alone = state["element_refs.property_offset"]
    found = Potential(network.build(symbols, **arguments), element_refs=alone)
    found.load_state_dict({name: network.converted(name, weight) for name, weight in state.items()})
    return found, sha256


class MatGL:
    """A potential, and the features of its network."""

    def __init__(self, card: Mapping[str, Any], device: str) -> None:
        self.versions = versions("torch", "matgl", "torch-geometric", "pymatgen-core", "ase")
        self.device = torch_device(device)
        self._network = part(card, card["architecture"]["network"])
        found, self.checkpoint_sha256 = potential(card, self._network)
        self.potential = found.to(self.device).eval().requires_grad_(False)
        self.layers = dict(enumerate(self._network.widths(found.model)))
        self.cutoff = float(found.model.cutoff)
        self.elements = frozenset(card["elements"])
        convert = Atoms2Graph(found.model.element_types, self.cutoff)
        self.graph = partial(build_graph, convert=convert)

    @torch.inference_mode()
    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Runs the network's blocks in order, and stops after the last requested layer."""
        features = self._network.features(self.potential.model, batch(graphs, self.device))
        return asked(features, layers)

    def predict(
        self, graphs: Sequence[Any], layers: Sequence[int], forces: bool
    ) -> tuple[dict[int, np.ndarray], Outputs]:
        """Runs all blocks and the package's head. Each edge has its own length, to derive by."""
        potential, graph = self.potential, batch(graphs, self.device)
        graph.vectors.requires_grad_(forces)
        with torch.set_grad_enabled(forces):
            if forces:
                graph.distances = torch.linalg.norm(graph.vectors, dim=1)
                graph.of_edge = torch.arange(len(graph.vectors), device=self.device)
            rows = list(self._network.features(potential.model, graph))
            atoms = potential.data_std * potential.model.final_layer(rows[-1]).view(-1)
            if potential.element_refs is not None:
                atoms = atoms + potential.element_refs.property_offset[graph.node_type]
        found = {layer: to_host(rows[layer]) for layer in layers}
        sizes = [len(one["node_type"]) for one in graphs]
        edges = graph.vectors, graph.start, graph.end
        return found, outputs_of_edges(atoms, sizes, *edges, forces=forces)


load = MatGL
