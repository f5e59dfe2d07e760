"""PET's own ways, through metatomic: what UPET's calculator is made of."""

from functools import partial
from typing import Any

import numpy as np
import torch
from ase import Atoms
from metatomic.torch import ModelOutput
from metatomic_ase import MetatomicCalculator

from ingest.families import Structure

LAST = "mtt::aux::energy_last_layer_features"


def calculator(model: Any) -> MetatomicCalculator:
    """The package's ASE calculator of the exported model."""
    return MetatomicCalculator(model.network.export(), device=model.device)


@torch.no_grad()
def features(model: Any, structure: Structure) -> dict[int, np.ndarray]:
    """`feature` after every layer, as the package makes it of what a layer hands on."""
    found: dict[int, np.ndarray] = {}
    backend, kept = model.network.backend, {}

    def keep(name: str, _module: Any, _inputs: Any, output: Any) -> None:
        kept[name] = output

    places = {"node": backend.gnn_layers_post_mp_node, "edge": backend.gnn_layers_post_mp_edge}
    hooks = [
        module.register_forward_hook(partial(keep, f"{kind} {layer}"))
        for kind, modules in places.items()
        for layer, module in enumerate(modules)
    ]

    def preprocess(*arguments: Any, **named: Any) -> Any:
        kept["batch"] = type(backend).preprocess(backend, *arguments, **named)
        return kept["batch"]

    backend.preprocess = preprocess
    wanted = {name: ModelOutput(sample_kind="atom") for name in ("feature", LAST)}
    atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
    try:
        said = calculator(model).run_model(atoms, wanted)
    finally:
        del backend.preprocess
        for hook in hooks:
            hook.remove()
    for layer in range(model.last):
        edges = kept[f"edge {layer}"] * kept["batch"]["cutoff_factors"][:, :, None]
        found[layer] = torch.cat([kept[f"node {layer}"], edges.sum(1)], 1).numpy()
    found[model.last - 1] = said["feature"].block().values.numpy()
    return found | {model.last: said[LAST].block().values.numpy()}
