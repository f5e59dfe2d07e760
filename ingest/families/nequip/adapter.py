"""NequIP: the 0e scalars that leave each convolution. Allegro: the scalars of each layer's edges.

Allegro is strictly local: its layers update edges, and an atom has their sum, which is normalised
as the package sums the energies of edges.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from allegro.model import AllegroModel
from ase.data import atomic_numbers
from ase.geometry import complete_cell
from matscipy.neighbours import neighbour_list
from nequip.model import NequIPGNNModel
from nequip.model.saved_models.load_utils import load_saved_model
from nequip.utils.global_state import set_global_state

from ingest.families import (
    Outputs,
    Structure,
    disjoint,
    pieces,
    pulls_of_edges,
    sums,
    torch_device,
    verified,
    versions,
    weights_sha256,
)
from ingest.transfer import to_host

CPU_EDGES = 1000  # in a forward pass on a CPU: what leaves the caches is slow
COMPILED = (".nequip.pth", ".nequip.pt2")  # what nequip-compile writes


def build_graph(
    structure: Structure, types: Mapping[int, int], cutoff: float
) -> dict[str, np.ndarray]:
    """Neighbours by the package's own default, and the vectors to them."""
    cell = complete_cell(structure.cell * structure.pbc[:, None])
    centers, neighbours, vectors = neighbour_list(
        "ijD", pbc=structure.pbc, cell=cell, positions=structure.positions, cutoff=cutoff
    )
    return {
        "types": np.array([types[number] for number in structure.numbers.tolist()]),
        "edges": np.stack([centers, neighbours]).astype(np.int64),
        "vectors": vectors,
    }


def untrained(card: Mapping[str, Any]) -> Any:
    """The network of a card with random weights."""
    architecture = dict(card["architecture"])
    build = AllegroModel if "radial_chemical_embed" in architecture else NequIPGNNModel
    names = [symbol for symbol, number in atomic_numbers.items() if number in card["elements"]]
    if "pair_potential" in architecture:
        architecture["pair_potential"] = architecture["pair_potential"] | {
            "chemical_species": names
        }
    return build(
        seed=card["seed"],
        model_dtype="float32",
        type_names=names,
        per_type_energy_scales=1.0,
        per_type_energy_shifts=0.0,
        **architecture,
    )


def contracted(product: Any, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
    """(edges, channels, k): Allegro's product of two tensors of an edge, as matrix products.

    x1: (edges, channels, i), x2: (edges, channels, j). The package multiplies out all of i, j and k
    for every edge and channel, a megabyte an edge, and sums then.
    """
    weights = torch.einsum(product._weight_w3j_einstr, product.weights, product.w3j)  # (u, i, j, k)
    outer = (x1.unsqueeze(-1) * x2.unsqueeze(-2)).flatten(2)
    return torch.bmm(outer.transpose(0, 1), weights.flatten(1, 2)).transpose(0, 1)


def lean(product: Any) -> None:
    """Let one of Allegro's modules do its product by `contracted`."""
    if product.path_channel_coupling and not product.w3j_is_ij_diagonal:
        product._contract = partial(contracted, product)  # allegro 0.7, of the published files
        product._contract_conv = lambda x1, x2, atoms: contracted(product, x1, x2[atoms])


class Nequip:
    """A packaged model or a checkpoint of NequIP or Allegro, or its architecture untrained."""

    def __init__(self, card: Mapping[str, Any], device: str) -> None:
        self.versions = versions("torch", "nequip", "nequip-allegro", "e3nn", "matscipy", "ase")
        self.device = torch_device(device)
        set_global_state()  # before a network is made: see to float64 edges, without TF32
        if card["seed"] is None:
            if str(card["checkpoint"]).endswith(COMPILED):
                raise ValueError(
                    f"{card['checkpoint']} is compiled and gives energies and forces alone; "
                    "features need the package (.nequip.zip) or the checkpoint (.ckpt)"
                )
            self.checkpoint_sha256 = verified(card["checkpoint"], card)
            network = load_saved_model(card["checkpoint"])
        else:
            network = untrained(card)
            self.checkpoint_sha256 = weights_sha256(dict(network.named_parameters()))
        self.network = network.to(self.device).eval().requires_grad_(False)
        self.modules = dict(network.model.func.named_children())
        self.cutoff = float(network.metadata["r_max"])
        types = {atomic_numbers[name]: i for i, name in enumerate(network.type_names)}
        self.elements = frozenset(types)
        if "allegro" in self.modules:
            allegro = self.modules["allegro"]
            self.layers = dict.fromkeys(range(allegro.num_layers), allegro.num_scalar_features)
            width = allegro.irreps_out["edge_features"].dim
            if width != (allegro.num_layers + 1) * allegro.num_scalar_features:
                raise ValueError(f"unsupported Allegro: its edges have {width} scalars in all")
            for product in allegro.tps:
                lean(product)
        else:
            self.scalars = [
                scalar_columns(module.irreps_out["node_features"])
                for name, module in self.modules.items()
                if name.endswith("_convnet")
            ]
            self.layers = {layer: len(columns) for layer, columns in enumerate(self.scalars)}
        self.graph = partial(build_graph, types=types, cutoff=self.cutoff)

    @torch.inference_mode()
    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Runs the package's modules in order, and stops after the last requested layer."""
        found: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
        for piece in self._pieces(graphs):
            for layer, scalars in self._run(self._batch(piece)):
                if layer in layers:
                    found[layer].append(scalars)
                if layer == max(layers):
                    break
        return {layer: to_host(torch.cat(rows)) for layer, rows in found.items()}

    def predict(
        self, graphs: Sequence[Any], layers: Sequence[int], forces: bool
    ) -> tuple[dict[int, np.ndarray], Outputs]:
        """Runs all modules."""
        found: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
        sites, pulls = [], []
        for piece in self._pieces(graphs):
            data = self._batch(piece)
            vectors = data["edge_vectors"].requires_grad_(forces)
            with torch.set_grad_enabled(forces):
                for layer, scalars in self._run(data):
                    if layer in layers:
                        found[layer].append(scalars.detach())
            atoms = data["atomic_energy"][:, 0]
            sites.append(atoms.detach())
            if forces:
                start, end = data["edge_index"]
                pulls.append(pulls_of_edges(atoms.sum(), vectors, start, end, len(atoms)))
        features = {layer: to_host(torch.cat(rows)) for layer, rows in found.items()}
        energies = sums(torch.cat(sites), [len(graph["types"]) for graph in graphs])
        return features, Outputs(energies, to_host(torch.cat(pulls).float()) if forces else None)

    def _pieces(self, graphs: Sequence[Any]) -> Iterator[list[Any]]:
        """What goes through the network at once: on a GPU all of them."""
        if self.device != "cpu":
            return iter([list(graphs)])
        return pieces(graphs, [graph["edges"].shape[1] for graph in graphs], CPU_EDGES)

    def _run(self, data: dict[str, torch.Tensor]) -> Iterator[tuple[int, torch.Tensor]]:
        """The layers in order, each with its atoms' scalars. `data` gets what modules make."""
        convolutions = 0
        for name, module in self.modules.items():
            if name == "total_energy_sum":
                return
            data = module(data)
            if name.endswith("_convnet"):
                yield convolutions, data["node_features"][:, self.scalars[convolutions]]
                convolutions += 1
            elif name == "allegro":
                # The first columns are of the two atoms alone; each layer adds its own to them.
                width = module.num_scalar_features
                for layer in self.layers:
                    columns = slice((layer + 1) * width, (layer + 2) * width)
                    yield layer, self._sum_of_edges(data, data["edge_features"][:, columns])

    def _sum_of_edges(self, data: dict[str, torch.Tensor], edges: torch.Tensor) -> torch.Tensor:
        """(atoms, dim), by the package's module that sums the energies of edges."""
        reduce = copy.copy(self.modules["edge_eng_sum"])
        reduce.field, reduce.out_field = "columns", "summed"
        summed: torch.Tensor = reduce(data | {"columns": edges})["summed"]
        return summed

    def _batch(self, graphs: Sequence[Any]) -> dict[str, torch.Tensor]:
        """One disjoint graph of all, as the package's modules want it."""
        whole = disjoint(graphs, {"edges": "types"}, self.device)
        return {
            "atom_types": whole["types"],
            "edge_index": whole["edges"],
            "edge_vectors": whole["vectors"],
        }


def scalar_columns(irreps: Any) -> list[int]:
    """Where the invariant scalars (0e) are among a layer's features."""
    return [
        column
        for (_, irrep), place in zip(irreps, irreps.slices(), strict=True)
        if irrep.l == 0 and irrep.p == 1
        for column in range(place.start, place.stop)
    ]


load = Nequip
