"""M3GNet's features at two thirds of the cost: the atoms' part of an edge's first layer is computed
once for each atom.

An edge's angles are at its start, and its message was summed at its end when the weights were
trained: hence the blocks, and only they, get reversed edges.
"""

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from matgl.graph._compute import compute_theta_and_phi, create_line_graph_torch
from matgl.models import M3GNet
from matgl.utils.cutoff import polynomial_cutoff
from torch import nn


def build(symbols: Sequence[str], **arguments: Any) -> M3GNet:
    """The package's network, its blocks fed with reversed edges."""
    network = M3GNet(tuple(symbols), **arguments)
    for block in network.graph_layers:
        block.register_forward_pre_hook(lambda _, inputs: (inputs[0].flip(0), *inputs[1:]))
    return network


def converted(name: str, weight: torch.Tensor) -> torch.Tensor:
    """A weight of matgl < 3 for reversed edges."""
    if name.endswith(("_update_func.layers.0.weight", "_update_func.gates.0.weight")):
        start, end, edge = weight.chunk(3, dim=1)
        return torch.cat((end, start, edge), dim=1)
    return weight


def widths(network: Any) -> list[int]:
    """Features after each block."""
    return [network.embedding.dim_node_embedding] * network.n_blocks


def features(network: Any, graph: SimpleNamespace) -> Iterator[torch.Tensor]:
    """An atom's features after each block."""
    start, end = graph.start, graph.end
    lengths = graph.distances[graph.of_edge]
    radial = network.bond_expansion(graph.distances)
    atoms = network.embedding.layer_node_embedding(graph.node_type)
    edges = network.embedding.layer_edge_embedding(radial)[graph.of_edge]
    cutoff = network.threebody_cutoff
    pairs = create_line_graph_torch(
        torch.stack((start, end)), lengths, graph.vectors, len(atoms), cutoff
    )
    angles = compute_theta_and_phi(graph.vectors, lengths, pairs["line_edge_index"])
    angular = network.basis_expansion(
        angles["triple_bond_lengths"], angles["cos_theta"], angles["phi"]
    )
    damping = polynomial_cutoff(lengths, cutoff)
    for three_body, block in zip(
        network.three_body_interactions, network.graph_layers, strict=True
    ):
        conv = block.conv
        edges = three_body(
            end,
            pairs["line_edge_index"],
            pairs["n_triple_ij"],
            len(lengths),
            angular,
            damping,
            atoms,
            edges,
        )
        weights = conv.edge_weight_func(radial)[graph.of_edge]
        edges = edges + weights * gated(conv.edge_update_func, atoms, end, start, edges)
        weights = conv.node_weight_func(radial)[graph.of_edge]
        messages = weights * gated(conv.node_update_func, atoms, end, start, edges)
        atoms = atoms.index_add(0, end, messages)
        yield atoms


def gated(
    module: Any, atoms: torch.Tensor, end: torch.Tensor, start: torch.Tensor, edges: torch.Tensor
) -> torch.Tensor:
    """`GatedMLP` of an edge's two atoms and itself."""
    branches = []
    for first, *others in (module.layers, module.gates):
        of_end, of_start, of_edge = first.weight.chunk(3, dim=1)
        rows = nn.functional.linear(edges, of_edge, first.bias)
        rows += (atoms @ of_end.T)[end]
        rows += (atoms @ of_start.T)[start]
        for module_ in others:
            rows = module_(rows)
        branches.append(rows)
    return branches[0] * branches[1]
