"""A small message-passing network of invariant scalars, and the graphs it reads.

Each layer sends to an atom, from every neighbour, scalars and a few vectors along the bond, both
weighted by the distance (continuous filters: SchNet, Schütt et al., J. Chem. Phys. 148, 241722,
2018; messages along the bond as in PaiNN, arXiv 2102.03150). The vectors' sums enter the atom's
scalars by their squared lengths, and are not kept. The negative gradient of the one scalar output
is the vector at each atom, whatever it is trained to be: a force, or the way back from a rattle.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ase.geometry import complete_cell
from matscipy.neighbours import neighbour_list
from torch import Tensor, nn

from ingest.families import Structure
from ingest.transfer import to_device

NUMBERS = 119  # rows of the element table, by atomic number


class Graph(NamedTuple):
    """Of one structure, as arrays, or of several side by side, as tensors.

    numbers: (n,) int64. centres, neighbours: (edges,) int64. vectors: (edges, 3) float32, Å, from
    the centre to the neighbour.
    """

    numbers: Any
    centres: Any
    neighbours: Any
    vectors: Any


def build_graph(structure: Structure, cutoff: float) -> Graph:
    """All neighbours within `cutoff` Å."""
    cell = complete_cell(structure.cell * structure.pbc[:, None])
    centres, neighbours, vectors = neighbour_list(
        "ijD", positions=structure.positions, cell=cell, pbc=structure.pbc, cutoff=cutoff
    )
    return Graph(
        structure.numbers.astype(np.int64),
        centres.astype(np.int64),
        neighbours.astype(np.int64),
        vectors.astype(np.float32),
    )


def side_by_side(graphs: Sequence[Graph], device: str) -> Graph:
    """One disjoint graph of all, as tensors."""
    first = np.cumsum([0, *(len(graph.numbers) for graph in graphs[:-1])])
    arrays = (
        [graph.numbers for graph in graphs],
        [graph.centres + start for graph, start in zip(graphs, first, strict=True)],
        [graph.neighbours + start for graph, start in zip(graphs, first, strict=True)],
        [graph.vectors for graph in graphs],
    )
    return Graph(*(to_device(np.concatenate(part), device) for part in arrays))


class Layer(nn.Module):
    """One round of messages."""

    def __init__(self, features: int, vectors: int, radial: int) -> None:
        super().__init__()
        self.features, self.sent = features, features + vectors
        self.send = nn.Sequential(
            nn.Linear(features, features), nn.SiLU(), nn.Linear(features, self.sent)
        )
        self.filter = nn.Linear(radial, self.sent, bias=False)
        self.update = nn.Sequential(
            nn.Linear(features + self.sent, features), nn.SiLU(), nn.Linear(features, features)
        )

    def forward(self, scalars: Tensor, graph: Graph, radial: Tensor, directions: Tensor) -> Tensor:
        """(n, features) → (n, features)."""
        messages = self.send(scalars)[graph.neighbours] * self.filter(radial)
        along = messages[:, None, self.features :] * directions[:, :, None]
        received = torch.cat([messages[:, : self.features], along.flatten(1)], dim=1)
        sums = received.new_zeros(len(scalars), received.shape[1])
        sums = sums.index_add(0, graph.centres, received)
        lengths = sums[:, self.features :].unflatten(1, (3, -1)).square().sum(1)
        inputs = torch.cat([scalars, sums[:, : self.features], lengths], dim=1)
        updated: Tensor = scalars + self.update(inputs)
        return updated


class Network(nn.Module):
    """The twins' one architecture."""

    def __init__(
        self, layers: int, features: int, vectors: int, radial: int, cutoff: float
    ) -> None:
        """vectors: how many a message has. radial: how many functions of the distance (Å)."""
        super().__init__()
        self.architecture = {
            "layers": layers,
            "features": features,
            "vectors": vectors,
            "radial": radial,
            "cutoff": cutoff,
        }
        self.cutoff, self.radial = cutoff, radial
        self.elements = nn.Embedding(NUMBERS, features)
        self.layers = nn.ModuleList(Layer(features, vectors, radial) for _ in range(layers))
        self.head = nn.Sequential(nn.Linear(features, features), nn.SiLU(), nn.Linear(features, 1))

    def embed(self, graph: Graph, layers: int) -> list[Tensor]:
        """Each atom's scalars after each of the first `layers` layers, (n, features)."""
        lengths = torch.linalg.vector_norm(graph.vectors, dim=1, keepdim=True)
        radial = self._radial(lengths)
        directions = graph.vectors / lengths
        scalars, found = self.elements(graph.numbers), []
        for layer in self.layers[:layers]:
            scalars = layer(scalars, graph, radial, directions)
            found.append(scalars)
        return found

    def forward(self, graph: Graph) -> tuple[Tensor, Tensor]:
        """The output of each atom (n,), whose sum is a structure's, and its negative gradient with
        respect to the positions (n, 3).
        """
        graph = graph._replace(vectors=graph.vectors.requires_grad_())
        outputs = self.head(self.embed(graph, len(self.layers))[-1])[:, 0]
        (pull,) = torch.autograd.grad(outputs.sum(), graph.vectors, create_graph=self.training)
        zeros = pull.new_zeros(len(outputs), 3)
        vectors = zeros.index_add(0, graph.centres, pull).index_add(0, graph.neighbours, -pull)
        return outputs, vectors

    def _radial(self, lengths: Tensor) -> Tensor:
        """Bessel functions, smooth at the cutoff (DimeNet, arXiv 2003.03123, equations 7 and 8)."""
        x = lengths / self.cutoff
        waves = torch.sin(torch.pi * x * torch.arange(1, self.radial + 1, device=x.device)) / x
        end = torch.where(x < 1, 1 - 28 * x**6 + 48 * x**7 - 21 * x**8, 0.0)
        return waves * end


def untrained(architecture: Mapping[str, Any], seed: int) -> Network:
    """The network with the random weights of this seed: where every arm of the seed begins."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(**architecture)


def trained(path: str | Path) -> Network:
    """The network of a checkpoint, an .npz without pickles (`training.save`)."""
    with np.load(path, allow_pickle=False) as arrays:
        network = Network(**json.loads(str(arrays["architecture"])))
        network.load_state_dict(
            {name: torch.from_numpy(arrays[name]) for name in network.state_dict()}
        )
    return network
