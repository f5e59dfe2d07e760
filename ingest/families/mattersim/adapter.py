"""MatterSim-v1: an atom's features after each block of its M3GNet.

The package's numbers at a fraction of its cost: pairs of bonds, which are most of the work, are
summed once and not in every block; what depends on one bond or one atom is computed once for each.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from mattersim.datasets.utils.convertor import compute_threebody_indices, get_fixed_radius_bonding
from mattersim.forcefield.m3gnet.m3gnet import M3Gnet
from mattersim.forcefield.m3gnet.modules.message_passing import polynomial

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


def build_graph(structure: Structure, cutoff: float, threebody_cutoff: float) -> dict[str, Any]:
    """The package's own bonds and pairs of bonds, and the bonds' vectors."""
    atoms = periodic_atoms(structure, cutoff)
    start, end, images, distances = get_fixed_radius_bonding(atoms, cutoff)
    edges = np.stack((start, end), axis=1)
    pairs, *_ = compute_threebody_indices(
        edges, distances, len(atoms), structure.numbers, threebody_cutoff
    )
    vectors = atoms.positions[end] + images @ atoms.cell.array - atoms.positions[start]
    return {
        "numbers": structure.numbers.astype(np.int64),
        "edges": edges.T.copy(),
        "vectors": vectors.astype(np.float32),
        "pairs": pairs.T.astype(np.int64),
    }


def network_of(card: Mapping[str, Any]) -> tuple[M3Gnet, str]:
    """The network of a card, and the SHA-256 of its file, or of its random weights."""
    if card["seed"] is not None:
        torch.manual_seed(card["seed"])
        network = M3Gnet(device="cpu", **card["architecture"])
        return network, weights_sha256(dict(network.named_parameters()))
    sha256 = verified(card["checkpoint"], card)
    saved = torch.load(card["checkpoint"], map_location="cpu", weights_only=True)
    network = M3Gnet(device="cpu", **saved["model_args"])
    missing, _ = network.load_state_dict(saved["model"], strict=False)  # as the package does
    if unknown := [name for name in missing if name in dict(network.named_parameters())]:
        raise ValueError(f"the checkpoint lacks {', '.join(unknown[:3])}")
    return network, sha256


class MatterSim:
    """A MatterSim-v1 checkpoint, or its architecture with random weights."""

    def __init__(self, card: Mapping[str, Any], device: str) -> None:
        self.versions = versions("torch", "mattersim", "torch-runstats", "pymatgen-core", "ase")
        self.device = torch_device(device)
        network, self.checkpoint_sha256 = network_of(card)
        self.cutoff = float(network.model_args["cutoff"])
        self.elements = frozenset(card["elements"])
        self.layers = dict.fromkeys(
            range(network.model_args["num_blocks"]), network.model_args["units"]
        )
        reach = float(network.model_args["threebody_cutoff"])
        self.graph = partial(build_graph, cutoff=self.cutoff, threebody_cutoff=reach)
        self.network = network.to(self.device).eval().requires_grad_(False)

    @torch.inference_mode()
    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Runs the network's blocks in order, and stops after the last requested layer."""
        return asked(self._blocks(self._batch(graphs)), layers)

    def predict(
        self, graphs: Sequence[Any], layers: Sequence[int], forces: bool
    ) -> tuple[dict[int, np.ndarray], Outputs]:
        """Runs all blocks and the package's head."""
        network, batch = self.network, self._batch(graphs)
        numbers, (start, end), vectors, _ = batch
        vectors.requires_grad_(forces)
        with torch.set_grad_enabled(forces):
            rows = list(self._blocks(batch))
            atoms = network.normalizer(network.final(rows[-1]).view(-1), numbers)
        found = {layer: to_host(rows[layer]) for layer in layers}
        sizes = [len(graph["numbers"]) for graph in graphs]
        return found, outputs_of_edges(atoms, sizes, vectors, start, end, forces=forces)

    def _blocks(self, batch: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The features of atoms that leave each block."""
        network, (numbers, (start, end), vectors, (first, second)) = self.network, batch
        lengths = torch.linalg.norm(vectors, dim=1)
        basis = network.rbf(lengths)
        surroundings = self._surroundings(vectors, lengths, first, second)
        atoms = network.atom_embedding(network.one_hot_atoms(numbers))
        bonds = network.edge_encoder(basis)
        for block in network.graph_conv:
            three = block.three_body
            bonds = bonds + three.edge_gate_mlp(surroundings * three.atom_mlp(atoms)[start])
            bonds = bonds + gated(block.gated_mlp_edge, atoms, start, end, bonds) * (
                block.edge_layer_edge(basis)
            )
            messages = gated(block.gated_mlp_atom, atoms, start, end, bonds)
            atoms = atoms.index_add(0, start, messages * block.edge_layer_atom(basis))
            yield atoms

    def _surroundings(
        self,
        vectors: torch.Tensor,
        lengths: torch.Tensor,
        first: torch.Tensor,
        second: torch.Tensor,
    ) -> torch.Tensor:
        """(bonds, max_l · max_n): what the other bonds of its first atom are to a bond.

        The package weighs each of a bond's pairs by their common atom, which is the bond's first:
        so that the sum over pairs is the same in all blocks.
        """
        basis = self.network.sbf
        reach = polynomial(lengths, self.network.model_args["threebody_cutoff"])[:, None]
        radial = basis(lengths, torch.zeros_like(lengths)) * reach
        radial = radial.unflatten(1, (basis.max_l, basis.max_n))
        units = vectors / lengths[:, None]
        angular = legendre((units[first] * units[second]).sum(1), basis.max_l)
        pairs = radial[second] * angular[:, :, None]
        summed: torch.Tensor = torch.zeros_like(radial).index_add(0, first, pairs).flatten(1)
        summed = summed * reach
        return summed

    def _batch(self, graphs: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        """One disjoint graph of all: numbers, edges, their vectors, and pairs of edges."""
        points_into = {"edges": "numbers", "pairs": "vectors"}
        return tuple(disjoint(graphs, points_into, self.device).values())


def legendre(cosines: torch.Tensor, count: int) -> torch.Tensor:
    """(…, count): the Legendre polynomials P₀, P₁, …, which are 1 at 1."""
    found = [torch.ones_like(cosines), cosines]
    for degree in range(2, count):
        found.append(((2 * degree - 1) * cosines * found[-1] - (degree - 1) * found[-2]) / degree)
    return torch.stack(found[:count], dim=-1)


def gated(
    module: Any, atoms: torch.Tensor, start: torch.Tensor, end: torch.Tensor, bonds: torch.Tensor
) -> torch.Tensor:
    """`GatedMLP` of a bond's two atoms and itself, the atoms' part once for each atom."""
    branches = []
    for first, *others in (module.g, module.sigma):
        of_start, of_end, of_bond = first.linear.weight.chunk(3, dim=1)
        rows = torch.nn.functional.linear(bonds, of_bond, first.linear.bias)
        rows = rows + (atoms @ of_start.T)[start] + (atoms @ of_end.T)[end]
        rows = rows * first.sigmoid(rows)
        for layer in others:
            rows = layer(rows)
        branches.append(rows)
    product: torch.Tensor = branches[0] * branches[1]
    return product


load = MatterSim
