"""Orb v3: the latent vector of an atom after each message-passing step.

The last is what the package calls node_features, and what its heads read.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from ase.geometry import complete_cell
from orb_models.forcefield import pretrained
from orb_models.forcefield.atomic_system import SystemConfig
from orb_models.forcefield.featurization_utilities import compute_supercell_neighbors
from orb_models.forcefield.nn_util import get_cutoff

from ingest.families import (
    Outputs,
    Structure,
    part,
    torch_device,
    verified,
    versions,
    weights_sha256,
)
from ingest.transfer import to_device, to_host


def build_graph(structure: Structure, config: SystemConfig) -> dict[str, np.ndarray]:
    """The package's neighbours: all within the radius, or the nearest where they are too many.

    It looks for them in images that are given to it. Its own choice of images is for three periodic
    directions or none, and lacks some where the cell is oblique.
    """
    pbc, atoms = structure.pbc, len(structure.numbers)
    cell = complete_cell(structure.cell * pbc[:, None])
    fractional = structure.positions @ np.linalg.inv(cell)
    positions = (fractional - np.floor(fractional) * pbc) @ cell
    spacings = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    reach = (config.radius / spacings + 1).astype(int) * pbc
    images = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach)), axis=-1).reshape(-1, 3)
    senders, neighbours, vectors, _ = compute_supercell_neighbors(
        torch.from_numpy(positions),
        torch.from_numpy((positions + (images @ cell)[:, None]).reshape(-1, 3)),
        radius=config.radius,
        max_num_neighbors=config.max_num_neighbors,
        edge_method="knn_scipy",
        n_workers=1,
    )
    # A crystal has the same vector between many pairs: it is encoded once.
    vectors, kinds = np.unique(vectors.float().numpy(), axis=0, return_inverse=True)
    return {
        "numbers": structure.numbers.astype(np.int64),
        "vectors": vectors,
        "kinds": kinds.ravel(),
        "senders": senders.numpy(),
        "receivers": neighbours.numpy() % atoms,
        "positions": structure.positions,
        "cell": cell if pbc.any() else np.zeros((3, 3)),
    }


def joined(graphs: Sequence[Any], name: str, of: str | None = None) -> np.ndarray:
    """An array of all graphs, in one. Indices into another, `of`, are shifted to where it is."""
    arrays = [graph[name] for graph in graphs]
    if of is not None:
        first = np.cumsum([0, *(len(graph[of]) for graph in graphs[:-1])])
        arrays = [array + shift for array, shift in zip(arrays, first, strict=True)]
    return np.concatenate(arrays)


class Orb:
    """An Orb v3 checkpoint, or the same network with random weights.

    Never compiled, and in float32 as torch has it by default: the package's "float32-highest".
    """

    def __init__(self, card: Mapping[str, Any], device: str) -> None:
        self.versions = versions("torch", "orb-models", "ase", "scipy")
        self.device = torch_device(device)
        arguments = dict(card["architecture"])
        build = getattr(pretrained, arguments.pop("constructor"))
        config = SystemConfig(**arguments.pop("system_config"))
        if card["seed"] is None:
            self.checkpoint_sha256 = verified(card["checkpoint"], card)
            self.regressor = build(device="cpu", system_config=config, **arguments)
            state = torch.load(card["checkpoint"], map_location="cpu", weights_only=True)
            self.regressor.load_state_dict(state)
        else:
            torch.manual_seed(card["seed"])
            self.regressor = build(device="cpu", system_config=config, **arguments)
            self.checkpoint_sha256 = weights_sha256(dict(self.regressor.named_parameters()))
        self._gns = self.regressor.eval().requires_grad_(False).to(self.device).model
        network, self._outputs = part(card, "network"), part(card, "outputs")
        self._encode_nodes = network.Network(self._gns._encoder._node_fn)
        self._encode_edges = network.Network(self._gns._encoder._edge_fn)
        self._steps = [network.Step(block) for block in self._gns.gnn_stacks]
        self.cutoff = float(config.radius)
        self.elements = frozenset(card["elements"])
        self.layers = dict.fromkeys(range(len(self._steps)), arguments["latent_dim"])
        self.graph = partial(build_graph, config=config)

    @torch.inference_mode()
    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Encodes atoms and edges, then passes messages until the last requested layer."""
        numbers, vectors, kinds, senders, receivers = self._tensors(graphs)
        cutoff = get_cutoff(vectors.norm(dim=-1))[kinds]
        nodes = self._encode_nodes(self._gns.atom_emb(numbers))
        batch = SimpleNamespace(edge_features={"vectors": vectors})
        edges = self._encode_edges(self._gns.featurize_edges(batch))[kinds]
        found = {}
        for layer, step in enumerate(self._steps[: max(layers) + 1]):
            nodes, edges = step(nodes, edges, senders, receivers, cutoff)
            if layer in layers:
                found[layer] = to_host(nodes)
        return found

    def predict(
        self, graphs: Sequence[Any], layers: Sequence[int], forces: bool
    ) -> tuple[dict[int, np.ndarray], Outputs]:
        """The package's own network and heads, on the same graphs."""
        batch = self._outputs.batch_of(self._tensors(graphs), graphs, self.device)
        found: tuple[dict[int, np.ndarray], Outputs] = self._outputs.predict(
            self.regressor, batch, layers, forces
        )
        return found

    def _tensors(self, graphs: Sequence[Any]) -> list[torch.Tensor]:
        """Numbers, vectors, kinds, senders and receivers of one disjoint graph of all."""
        pairs = [("numbers", None), ("vectors", None), ("kinds", "vectors")]
        pairs += [("senders", "numbers"), ("receivers", "numbers")]
        return [to_device(joined(graphs, name, of), self.device) for name, of in pairs]


load = Orb
