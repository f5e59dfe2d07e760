"""Chemeleon-DNG, a generative model: the node features that leave each layer of its denoiser.

A crystal is read as the package's training data are: its Niggli cell, every atom joined to every
other. So the features depend on the cell: those of a supercell are others. They are asked for at
the smallest noise of the training.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ase.geometry import complete_cell
from chemeleon_dng.cspnet import CSPNet
from chemeleon_dng.diffusion.diffusion_module import DiffusionModule
from pymatgen.core.lattice import Lattice

from ingest.families import Structure, torch_device, verified, versions, weights_sha256
from ingest.transfer import to_device, to_host

LEAST_NOISE = 1  # the first step of the diffusion
VACUUM = 10.0  # Å, along a direction without periodicity: the network knows only crystals


def build_graph(structure: Structure) -> dict[str, np.ndarray]:
    """The Niggli cell and the fractional coordinates in it."""
    cell = complete_cell(structure.cell * structure.pbc[:, None])
    lengths = np.ptp(structure.positions @ cell.T, axis=0) + VACUUM
    cell[~structure.pbc] *= lengths[~structure.pbc, None]
    lattice = Lattice(cell).get_niggli_reduced_lattice()
    return {
        "atom_types": structure.numbers.astype(np.int64),
        "frac_coords": lattice.get_fractional_coords(structure.positions).astype(np.float32) % 1,
        "lattices": Lattice.from_parameters(*lattice.parameters).matrix.astype(np.float32)[None],
    }


def network(card: Mapping[str, Any]) -> tuple[CSPNet, str]:
    """The network of a checkpoint, or the card's with random weights; their SHA-256."""
    if card["seed"] is None:
        sha256 = verified(card["checkpoint"], card)
        module = DiffusionModule.load_from_checkpoint(
            card["checkpoint"], map_location="cpu", weights_only=False
        )
        return module.model, sha256
    torch.manual_seed(card["seed"])
    model = CSPNet(**card["architecture"])
    return model, weights_sha256(dict(model.named_parameters()), model.state_dict())


class Chemeleon:
    """A Chemeleon-DNG checkpoint, or its architecture with random weights."""

    def __init__(self, card: Mapping[str, Any], device: str) -> None:
        self.versions = versions("torch", "chemeleon-dng", "torch-geometric", "pymatgen", "ase")
        self.device = torch_device(device)
        model, self.checkpoint_sha256 = network(card)
        self._model = model.to(self.device).eval()
        self._layers = [getattr(model, f"csp_layer_{i}") for i in range(model.num_layers)]
        self.cutoff = float(card["cutoff"])
        self.elements = frozenset(card["elements"])
        self.layers = dict.fromkeys(range(model.num_layers), model.hidden_dim)
        self.graph = build_graph

    @torch.inference_mode()
    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """The package's own forward pass, hooked."""
        found: dict[int, np.ndarray] = {}

        def keep(layer: torch.nn.Module, _inputs: object, output: torch.Tensor) -> None:
            found[self._layers.index(layer)] = to_host(output)

        sizes = torch.tensor([len(graph["atom_types"]) for graph in graphs], device=self.device)
        steps = torch.full((len(graphs),), LEAST_NOISE, device=self.device)
        crystals = {
            name: to_device(np.concatenate([graph[name] for graph in graphs]), self.device)
            for name in graphs[0]
        }
        hooks = [self._layers[i].register_forward_hook(keep) for i in layers]
        try:
            self._model(
                **crystals,
                num_atoms=sizes,
                batch_idx=torch.repeat_interleave(sizes),
                t=steps,
            )
        finally:
            for hook in hooks:
                hook.remove()
        return found


load = Chemeleon
