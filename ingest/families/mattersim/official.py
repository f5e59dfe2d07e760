"""MatterSim's own calculator, its features of atoms, and its own head on the last layer."""

from functools import cache
from typing import Any

import numpy as np
import torch
from mattersim.datasets.utils.build import build_dataloader
from mattersim.forcefield.potential import MatterSimCalculator, Potential, batch_to_dict

from ingest.families import Head, Structure, periodic_atoms


@cache
def calculator(model: Any) -> MatterSimCalculator:
    """The package's own, around the very network."""
    potential = Potential(model.network, device=model.device)
    return MatterSimCalculator(potential, compute_stress=False, device=model.device)


@torch.inference_mode()
def features(model: Any, structure: Structure) -> dict[int, np.ndarray]:
    """The atoms that leave each block of the package's own forward."""
    found: dict[int, np.ndarray] = {}

    def keep(layer: int) -> Any:
        return lambda _, __, output: found.update({layer: output[0].cpu().numpy()})

    hooks = [
        block.register_forward_hook(keep(layer))
        for layer, block in enumerate(model.network.graph_conv)
    ]
    arguments = model.network.model_args
    loader = build_dataloader(
        [periodic_atoms(structure, model.cutoff)],
        model_type="m3gnet",
        cutoff=arguments["cutoff"],
        threebody_cutoff=arguments["threebody_cutoff"],
        batch_size=1,
        only_inference=True,
    )
    for batch in loader:
        model.network(batch_to_dict(batch, device=model.device))
    for hook in hooks:
        hook.remove()
    return found


def head(model: Any) -> Head:
    """The site's energy, scaled and shifted by its element."""

    @torch.inference_mode()
    def energies(features: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        rows = torch.from_numpy(features).to(model.device)
        sites = model.network.final(rows).view(-1)
        kinds = torch.from_numpy(numbers).to(model.device)
        found: np.ndarray = model.network.normalizer(sites, kinds).cpu().numpy()
        return found

    return energies
