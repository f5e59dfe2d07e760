"""TensorNet's features at a third of the cost: matgl's weights in another layout.

A 3×3 tensor is held as its nine coordinates in an orthonormal basis of one scalar, three skew and
five symmetric traceless matrices, instead of as three matrices; what depends on a distance alone is
computed once for each that occurs.
"""

from collections.abc import Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from matgl.models import TensorNet
from matgl.utils.cutoff import cosine_cutoff
from matgl.utils.maths import vector_to_skewtensor, vector_to_symtensor
from torch import nn

R2, R3, R6 = 2**-0.5, 3**-0.5, 6**-0.5
BASIS = torch.tensor([
    [R3, 0, 0, 0, R3, 0, 0, 0, R3],
    [0, R2, 0, -R2, 0, 0, 0, 0, 0],
    [0, 0, R2, 0, 0, 0, -R2, 0, 0],
    [0, 0, 0, 0, 0, R2, 0, -R2, 0],
    [0, R2, 0, R2, 0, 0, 0, 0, 0],
    [0, 0, R2, 0, 0, 0, R2, 0, 0],
    [0, 0, 0, 0, 0, R2, 0, R2, 0],
    [R2, 0, 0, 0, -R2, 0, 0, 0, 0],
    [-R6, 0, 0, 0, -R6, 0, 0, 0, 2 * R6],
])  # fmt: skip
PARTS = (slice(0, 1), slice(1, 4), slice(4, 9))
PART_OF = (0, 1, 1, 1, 2, 2, 2, 2, 2)


def build(symbols: Sequence[str], **arguments: Any) -> TensorNet:
    """The package's network, in plain torch wherever it runs."""
    return TensorNet(tuple(symbols), use_warp=False, **arguments)


def converted(name: str, weight: torch.Tensor) -> torch.Tensor:
    """A weight of matgl < 2.2 for reversed edges."""
    if name.endswith(".emb2.weight"):
        start, end = weight.chunk(2, dim=1)
        return torch.cat((end, start), dim=1)
    return -weight if ".distance_proj2." in name else weight


def widths(network: Any) -> list[int]:
    """Invariants after each interaction."""
    return [3 * network.units] * (network.num_layers - 1) + [network.units]


def features(network: Any, graph: SimpleNamespace) -> Iterator[torch.Tensor]:
    """An atom's invariants after each interaction, the last as the energy head reads them."""
    basis = BASIS.to(graph.vectors)
    radial = network.bond_expansion(graph.distances)
    tensors = embedded(network.tensor_embedding, graph, radial, basis)
    for block in network.layers:
        tensors = interacted(block, graph, radial, basis, tensors)
        norms = torch.cat([tensors[part].square().sum(0) for part in PARTS], dim=-1)
        yield network.linear(network.out_norm(norms)) if block is network.layers[-1] else norms


def embedded(
    module: Any, graph: SimpleNamespace, radial: torch.Tensor, basis: torch.Tensor
) -> torch.Tensor:
    """`TensorEmbedding`: (9, atoms, channels)."""
    kind = module.emb(graph.node_type)
    pair = module.emb2(torch.cat((kind[graph.start], kind[graph.end]), dim=-1))
    cutoff = cosine_cutoff(graph.distances, module.cutoff)[:, None]
    projections = (module.distance_proj1, module.distance_proj2, module.distance_proj3)
    weights = [(project(radial) * cutoff)[graph.of_edge] * pair for project in projections]
    units = nn.functional.normalize(graph.vectors)
    matrices = torch.eye(3).to(units) + vector_to_skewtensor(units) + vector_to_symtensor(units)
    coordinates = basis @ matrices.flatten(1).T
    terms = (weights[PART_OF[i]] * coordinates[i, :, None] for i in range(9))
    tensors = summed(graph, terms)
    scales = module.init_norm(tensors.square().sum(0))
    for linear in module.linears_scalar:
        scales = module.act(linear(scales))
    scale = scales.unflatten(-1, (-1, 3)).unbind(-1)
    return mixed(module.linears_tensor, tensors) * torch.stack([scale[i] for i in PART_OF])


def interacted(
    module: Any,
    graph: SimpleNamespace,
    radial: torch.Tensor,
    basis: torch.Tensor,
    tensors: torch.Tensor,
) -> torch.Tensor:
    """`TensorNetInteraction`: (9, atoms, channels)."""
    for linear in module.linears_scalar:
        radial = module.act(linear(radial))
    radial = radial * cosine_cutoff(graph.distances, module.cutoff)[:, None]
    weights = [part[graph.of_edge] for part in radial.unflatten(-1, (-1, 3)).unbind(-1)]
    tensors = tensors / (tensors.square().sum(0) + 1)
    own = mixed(module.linears_tensor[:3], tensors)
    messages = summed(graph, (weights[PART_OF[i]] * own[i][graph.end] for i in range(9)))
    both = product(messages, own, basis) + product(own, messages, basis)
    change = mixed(module.linears_tensor[3:], both / (both.square().sum(0) + 1))
    return tensors + change + product(change, change, basis)


def summed(graph: SimpleNamespace, terms: Iterable[torch.Tensor]) -> torch.Tensor:
    """Over the edges that start at an atom, one coordinate after the other."""
    atoms = len(graph.node_type)
    return torch.stack(
        [term.new_zeros(atoms, term.shape[1]).index_add_(0, graph.start, term) for term in terms]
    )


def mixed(linears: Sequence[Any], tensors: torch.Tensor) -> torch.Tensor:
    """Channels mixed, the scalar, skew and symmetric parts each in its own way."""
    return torch.cat([mix(tensors[part]) for mix, part in zip(linears, PARTS, strict=True)])


def product(left: torch.Tensor, right: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """The matrix product."""
    rows: torch.Tensor = (basis.T @ left.flatten(1)).unflatten(0, (3, 3))
    columns: torch.Tensor = (basis.T @ right.flatten(1)).unflatten(0, (3, 3))
    matrices = (rows[:, :, None] * columns[None]).sum(1)
    return (basis @ matrices.flatten(0, 1)).view_as(left)
