"""MatRIS: the atom features after each interaction, the last as the energy head reads it."""

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from typing import Any

import numpy as np
import torch
from matris.graph import RadiusGraph
from matris.model.model import MatRIS

from ingest.crystal_graphs import as_tensors, build_graph, run_layers
from ingest.families import (
    Outputs,
    torch_device,
    verified,
    versions,
    weights_sha256,
)
from ingest.transfer import to_device, to_host


def network(card: Mapping[str, Any]) -> tuple[MatRIS, str]:
    """The network of a card, trained or initialised at random, and its weights' SHA-256."""
    with redirect_stdout(None):  # the package reports every network that it builds
        if card["seed"] is None:
            sha256 = verified(card["checkpoint"], card)
            saved = torch.load(card["checkpoint"], map_location="cpu", weights_only=False)
            return MatRIS.from_dict(saved), sha256
        torch.manual_seed(card["seed"])
        model = MatRIS(**card["architecture"])
    return model, weights_sha256(dict(model.named_parameters()), model.state_dict())


class Matris:
    """A MatRIS checkpoint, or its architecture with random weights."""

    def __init__(self, card: Mapping[str, Any], device: str) -> None:
        self.versions = versions("torch", "matris", "pymatgen", "ase")
        self.device = torch_device(device)
        model, self.checkpoint_sha256 = network(card)
        self.network = model.to(self.device).eval().requires_grad_(False)
        self.cutoff = float(self.network.graph_converter.atom_graph_cutoff)
        # The network has a row for every element, trained or not: the card knows.
        self.elements = frozenset(card["elements"])
        self._blocks = [*self.network.interaction_block[:-1], self.network.readout_norm]
        self.layers = dict.fromkeys(range(len(self._blocks)), self.network.config["node_feat_dim"])
        self.graph = partial(build_graph, convert=self.network.graph_converter)

    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """The package's own forward pass, stopped after the last requested layer."""
        found, _ = self._run(graphs, layers)
        return found

    def predict(
        self, graphs: Sequence[Any], layers: Sequence[int], forces: bool
    ) -> tuple[dict[int, np.ndarray], Outputs]:
        """The package's own forward pass to its end, and its own forces."""
        found, said = self._run(graphs, layers, "ef" if forces else "e")
        energies = said["e"].detach().double()
        if self.network.is_intensive:
            sizes = np.array([len(one["atomic_number"]) for one in graphs])
            energies = energies * to_device(sizes, self.device)
        gradients = to_host(torch.cat(said["f"])) if forces else None
        return found, Outputs(to_host(energies), gradients)

    def _run(
        self, graphs: Sequence[Any], layers: Sequence[int], task: str | None = None
    ) -> tuple[dict[int, np.ndarray], dict[str, Any]]:
        """Layers by hooks, and what the package says of a task; without one it stops early."""

        def forward() -> dict[str, Any]:
            with torch.set_grad_enabled(task == "ef"):
                said: dict[str, Any] = self.network(
                    [self._graph(one) for one in graphs], task=task or "e"
                )
                return said

        found, said = run_layers(self._blocks, layers, forward, whole=task is not None)
        return {layer: to_host(rows) for layer, rows in found.items()}, said

    def _graph(self, graph: Mapping[str, Any]) -> RadiusGraph:
        return RadiusGraph(**as_tensors(graph)).to(self.device)


load = Matris
