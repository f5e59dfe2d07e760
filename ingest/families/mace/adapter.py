"""MACE: the invariant scalars that leave each product block.

A network may have several heads, each with its own energies: the card's `modality` names one.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from mace import modules
from mace.data import get_neighborhood

# isort: split
from e3nn import o3  # after mace, which sees to it that torch reads e3nn's own constants

from ingest.families import (
    Outputs,
    Structure,
    disjoint,
    outputs_of_edges,
    torch_device,
    verified,
    versions,
    weights_sha256,
)
from ingest.neighbours import neighbours
from ingest.transfer import to_host


def build_graph(structure: Structure, cutoff: float) -> dict[str, np.ndarray]:
    """The package's own neighbours, and the vectors to them.

    It replaces lattice vectors without periodicity by Cartesian axes of the same number, so they
    come last, and in a frame where the periodic ones span the first axes.
    """
    order = np.argsort(~structure.pbc, kind="stable")
    pbc, cell, positions = structure.pbc[order], structure.cell[order], structure.positions
    frame, upper = np.linalg.qr(cell.T)
    edges, _, images, _ = get_neighborhood(positions @ frame, cutoff, tuple(pbc), upper.T.copy())
    return {
        "numbers": structure.numbers.astype(np.int64),
        "edges": edges.astype(np.int64),
        "vectors": (positions[edges[1]] - positions[edges[0]] + images @ cell).astype(np.float32),
    }


def random_network(card: Mapping[str, Any]) -> modules.ScaleShiftMACE:
    """The card's architecture as the package initialises it, nothing trained."""
    architecture, elements = dict(card["architecture"]), list(card["elements"])
    heads = architecture.get("heads", ["Default"])
    for name in ("interaction_cls_first", "interaction_cls"):
        architecture[name] = modules.interaction_classes[architecture[name]]
    for name in {"hidden_irreps", "MLP_irreps", "edge_irreps"} & architecture.keys():
        architecture[name] = o3.Irreps(architecture[name])
    architecture["gate"] = modules.gate_dict[architecture["gate"]]
    torch.manual_seed(card["seed"])
    return modules.ScaleShiftMACE(
        **architecture,
        atomic_numbers=elements,
        num_elements=len(elements),
        atomic_energies=np.zeros((len(heads), len(elements))),
        atomic_inter_scale=[1.0] * len(heads),
        atomic_inter_shift=[0.0] * len(heads),
    )


def head_of(network: Any, named: str | None) -> int:
    """Which head: that named, the only one, or the one called default, as the package chooses.

    Raises ValueError, naming them.
    """
    heads = list(getattr(network, "heads", ["Default"]))
    wanted = named or (heads[0] if len(heads) == 1 else "default")
    found = [i for i, head in enumerate(heads) if head == wanted or head.lower() == wanted]
    if not found:
        raise ValueError(f"it has no head {wanted}: the modality must be one of {', '.join(heads)}")
    return found[0]


def invariants(
    product: Any, node_feats: torch.Tensor, skip: torch.Tensor | None, node_attrs: torch.Tensor
) -> torch.Tensor:
    """A product block, its equivariant outputs left zero: most of its work, and 0e needs none."""
    if getattr(product, "use_agnostic_product", False):  # it knows no elements
        node_attrs = node_attrs.new_ones(len(node_attrs), 1)
    contracted = product.symmetric_contractions.contractions[0](node_feats, node_attrs)
    equivariant = product.linear.irreps_in.dim - contracted.shape[1]
    mixed: torch.Tensor = product.linear(torch.nn.functional.pad(contracted, (0, equivariant)))
    return mixed + skip if product.use_sc and skip is not None else mixed


class Mace:
    """A MACE checkpoint, or its architecture with random weights."""

    def __init__(self, card: Mapping[str, Any], device: str) -> None:
        self.versions = versions("torch", "mace-torch", "e3nn", "matscipy", "ase")
        self.device = torch_device(device)
        if card["seed"] is None:
            self.checkpoint_sha256 = verified(card["checkpoint"], card)
            network = torch.load(card["checkpoint"], map_location="cpu", weights_only=False)
        else:
            network = random_network(card)
            # Not the buffers: the last bits of their Clebsch-Gordan sums are the machine's.
            self.checkpoint_sha256 = weights_sha256(dict(network.named_parameters()))
        if hasattr(network, "joint_embedding") or getattr(network, "use_last_readout_only", False):
            raise ValueError("unsupported MACE: it has charges or spins, or its last readout alone")
        self.head = head_of(network, card["modality"])
        self.cutoff = float(network.r_max)
        self.elements = frozenset(network.atomic_numbers.tolist())
        irreps = [product.linear.irreps_out for product in network.products]
        self.layers = {layer: each.count("0e") for layer, each in enumerate(irreps)}
        self.graph = partial(build_graph, cutoff=self.cutoff)
        self.network = network.float().to(self.device).eval().requires_grad_(False)

    def graphs(self, structures: Sequence[Structure]) -> list[dict[str, Any]]:
        """`graph` of many at once, on the device."""
        found = neighbours(structures, self.cutoff, self.device)
        return [
            {"numbers": one.numbers.astype(np.int64), "edges": edges, "vectors": vectors}
            for one, (edges, vectors) in zip(structures, found, strict=True)
        ]

    @torch.inference_mode()
    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Runs the model's modules in order, and stops after the last requested layer."""
        return {
            layer: self._scalars(layer, node_feats)
            for layer, node_feats in self._run(self.batch(graphs), max(layers))
            if layer in layers
        }

    def predict(
        self, graphs: Sequence[Any], layers: Sequence[int], forces: bool
    ) -> tuple[dict[int, np.ndarray], Outputs]:
        """Runs all modules, with a readout after each product."""
        network = self.network
        node_attrs, edges, vectors, lengths = tensors = self.batch(graphs, forces)
        rows = torch.arange(len(node_attrs), device=self.device)
        heads = torch.full_like(rows, self.head)
        interaction, found = vectors.new_zeros(len(rows)), {}
        with torch.set_grad_enabled(forces):
            for layer, node_feats in self._run(tensors, max(self.layers)):
                if layer in layers:
                    found[layer] = self._scalars(layer, node_feats.detach())
                interaction = interaction + network.readouts[layer](node_feats, heads)[rows, heads]
            if hasattr(network, "pair_repulsion"):
                interaction = interaction + network.pair_repulsion_fn(
                    lengths, node_attrs, edges, network.atomic_numbers
                )
            alone = network.atomic_energies_fn(node_attrs)[rows, heads]
            atoms = alone + network.scale_shift(interaction, heads)
        sizes = [len(graph["numbers"]) for graph in graphs]
        return found, outputs_of_edges(atoms, sizes, vectors, edges[0], edges[1], forces=forces)

    def _scalars(self, layer: int, node_feats: torch.Tensor) -> np.ndarray:
        """Irreps are sorted: 0e is first."""
        return to_host(node_feats[:, : self.layers[layer]])

    def _run(
        self, tensors: tuple[torch.Tensor, ...], last: int
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """The layers up to the last wanted, each with what leaves its product."""
        network, (node_attrs, edges, vectors, lengths) = self.network, tensors
        node_feats = network.node_embedding(node_attrs)
        edge_attrs = network.spherical_harmonics(vectors)
        edge_feats, cutoff = network.radial_embedding(
            lengths, node_attrs, edges, network.atomic_numbers
        )
        for layer in range(last + 1):
            node_feats, skip = network.interactions[layer](
                node_attrs=node_attrs,
                node_feats=node_feats,
                edge_attrs=edge_attrs,
                edge_feats=edge_feats,
                edge_index=edges,
                cutoff=cutoff,
                first_layer=layer == 0,
            )
            product = network.products[layer]
            if layer == last:
                node_feats = invariants(product, node_feats, skip, node_attrs)
            else:
                node_feats = product(node_feats, skip, node_attrs)
            yield layer, node_feats

    def batch(self, graphs: Sequence[Any], forces: bool = False) -> tuple[torch.Tensor, ...]:
        """One disjoint graph of all: one-hot elements, edges, their vectors and lengths."""
        numbers, edges, vectors = disjoint(graphs, {"edges": "numbers"}, self.device).values()
        vectors.requires_grad_(forces)
        node_attrs = (numbers[:, None] == self.network.atomic_numbers).to(torch.float32)
        return node_attrs, edges, vectors, torch.linalg.norm(vectors, dim=1, keepdim=True)


load = Mace
