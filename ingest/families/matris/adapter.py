"""MatRIS: the atom features after each interaction, the last as the energy head reads it."""

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from typing import Any

import numpy as np
import torch
from ase.cell import Cell
from matris.graph import GraphConverter, RadiusGraph
from matris.model.model import MatRIS
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure as Crystal

from ingest.families import (
    Outputs,
    Structure,
    torch_device,
    verified,
    versions,
    weights_sha256,
)


class _LastLayerReached(Exception):
    """Ends a forward pass after the last requested layer."""


def build_graph(structure: Structure, convert: GraphConverter) -> dict[str, Any]:
    """The package's own graph, its tensors as arrays.

    A direction without periodicity needs a lattice vector only for fractional coordinates. The
    package refuses a structure with an atom that has no neighbour.
    """
    cell = Cell(structure.cell * structure.pbc[:, None]).complete()
    x, y, z = structure.pbc.tolist()
    crystal = Crystal(
        Lattice(cell, pbc=(x, y, z)),
        structure.numbers.tolist(),
        structure.positions,
        coords_are_cartesian=True,
    )
    return {
        key: value.numpy() if isinstance(value, torch.Tensor) else value
        for key, value in convert(crystal).to_dict().items()
    }


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
        energies = said["e"].detach().cpu().double().numpy()
        if self.network.is_intensive:
            energies = energies * np.array([len(one["atomic_number"]) for one in graphs])
        gradients = torch.cat(said["f"]).detach().cpu().numpy() if forces else None
        return found, Outputs(energies, gradients)

    def _run(
        self, graphs: Sequence[Any], layers: Sequence[int], task: str | None = None
    ) -> tuple[dict[int, np.ndarray], dict[str, Any]]:
        """Layers by hooks, and what the package says of a task; without one it stops early."""
        found: dict[int, np.ndarray] = {}

        def keep(layer: int, _module: object, _inputs: object, output: Any) -> None:
            atoms = output[0] if isinstance(output, tuple) else output
            found[layer] = atoms.detach().cpu().numpy()
            if task is None and layer == max(layers):
                raise _LastLayerReached

        hooks = [self._blocks[i].register_forward_hook(partial(keep, i)) for i in layers]
        try:
            with torch.set_grad_enabled(task == "ef"):
                return found, self.network([self._graph(one) for one in graphs], task=task or "e")
        except _LastLayerReached:
            return found, {}
        finally:
            for hook in hooks:
                hook.remove()

    def _graph(self, graph: Mapping[str, Any]) -> RadiusGraph:
        tensors = {
            key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for key, value in graph.items()
        }
        return RadiusGraph(**tensors).to(self.device)


load = Matris
