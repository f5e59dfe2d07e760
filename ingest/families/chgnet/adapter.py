"""CHGNet: the atom features after each atom convolution, the last as the energy head reads it."""

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ingest.crystal_graphs import as_tensors, build_graph, run_layers
from ingest.families import (
    Outputs,
    torch_device,
    verified,
    versions,
    weights_sha256,
)
from ingest.imports import without
from ingest.transfer import to_device, to_host

with without("chgnet.model.dynamics", "chgnet.utils.vasp_utils"):
    import chgnet
    from chgnet.graph.crystalgraph import CrystalGraph
    from chgnet.model.model import CHGNet


def network(card: Mapping[str, Any]) -> tuple[CHGNet, str]:
    """The network of a card, trained or initialised at random, and its weights' SHA-256."""
    folder = Path(chgnet.__file__).parent / "pretrained" / card["loader"]
    path = card["checkpoint"] or next(folder.glob("*.pth.tar"))
    sha256 = verified(path, card)
    saved = torch.load(path, map_location="cpu", weights_only=False)["model"]
    # What CHGNet.load adds to a checkpoint's own arguments.
    more = {"mlp_out_bias": card["loader"] == "0.2.0", "version": card["loader"]}
    with redirect_stdout(None):  # the package reports every network that it builds
        if card["seed"] is None:
            return CHGNet.from_dict(saved, **more), sha256
        torch.manual_seed(card["seed"])
        # The composition model is fitted, and has no part in the features.
        model = CHGNet(**saved["model_args"] | more | {"composition_model": None})
    return model, weights_sha256(dict(model.named_parameters()), model.state_dict())


class Chgnet:
    """A CHGNet checkpoint from the package's own wheel."""

    def __init__(self, card: Mapping[str, Any], device: str) -> None:
        self.versions = versions("torch", "chgnet", "pymatgen", "ase")
        self.device = torch_device(device)
        model, self.checkpoint_sha256 = network(card)
        self._model = model.to(self.device).eval().requires_grad_(False)
        converter = self._model.graph_converter
        self.cutoff = float(converter.atom_graph_cutoff)
        # The checkpoint has a row for every element up to Pu, trained or not: the card knows.
        self.elements = frozenset(card["elements"])
        self._layers = list(self._model.atom_conv_layers)
        if self._model.readout_norm is not None:
            self._layers[-1] = self._model.readout_norm
        self.layers = dict.fromkeys(range(len(self._layers)), self._model.atom_fea_dim)
        self.graph = partial(build_graph, convert=converter)

    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """The package's own forward pass, stopped after the last requested layer."""
        found, _ = self._run(graphs, layers)
        return found

    def predict(
        self, graphs: Sequence[Any], layers: Sequence[int], forces: bool
    ) -> tuple[dict[int, np.ndarray], Outputs]:
        """The package's own forward pass to its end, and its own forces."""
        return self._run(graphs, layers, "ef" if forces else "e")

    def _run(
        self, graphs: Sequence[Any], layers: Sequence[int], task: str | None = None
    ) -> tuple[dict[int, np.ndarray], Outputs]:
        """Structures without angles apart from the others.

        Beside others, the package also updates their bonds, which it does not where they are alone.
        """
        angles = np.array([len(graph["bond_graph"]) > 0 for graph in graphs])
        sizes = np.array([len(graph["atomic_number"]) for graph in graphs])
        of_atoms = np.repeat(angles, sizes)
        parts, energies, forces = [], [], []
        for kind in np.unique(angles):
            group = [graph for graph, one in zip(graphs, angles, strict=True) if one == kind]
            features, said = self._forward(group, layers, task)
            parts.append(features)
            if task:
                scale = sizes[angles == kind] if self._model.is_intensive else np.ones(len(group))
                energies.append(said["e"].detach().double() * to_device(scale, self.device))
            if task == "ef":
                forces.append(torch.cat(said["f"]))
        found = {i: reunited([part[i] for part in parts], of_atoms) for i in layers}
        return found, Outputs(
            reunited(energies, angles) if task else np.empty(0),
            reunited(forces, of_atoms) if task == "ef" else None,
        )

    def _forward(
        self, graphs: Sequence[Any], layers: Sequence[int], task: str | None
    ) -> tuple[dict[int, torch.Tensor], dict[str, Any]]:
        """Layers by hooks, and what the package says of a task; without one it stops early."""
        crystals = [self._crystal_graph(graph, task == "ef") for graph in graphs]

        def forward() -> dict[str, Any]:
            with torch.inference_mode(task != "ef"):
                said: dict[str, Any] = self._model(crystals, task=task or "e")
                return said

        return run_layers(self._layers, layers, forward, whole=task is not None)

    def _crystal_graph(self, graph: Mapping[str, Any], forces: bool) -> CrystalGraph:
        tensors = as_tensors(graph)
        tensors["atom_frac_coord"].requires_grad_(forces)
        return CrystalGraph(**tensors).to(self.device)


def reunited(parts: Sequence[torch.Tensor], kinds: np.ndarray) -> np.ndarray:
    """The rows of each kind, in their order, in the order of `kinds`."""
    places = np.argsort(np.argsort(kinds, kind="stable"))
    return to_host(torch.cat(list(parts))[to_device(places, str(parts[0].device))])


load = Chgnet
