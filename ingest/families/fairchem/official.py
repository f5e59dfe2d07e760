"""fairchem's own calculator, and what its backbone hands on meanwhile."""

from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from ase import Atoms
from fairchem.core import FAIRChemCalculator
from fairchem.core.units.mlip_unit import MLIPPredictUnit
from fairchem.core.units.mlip_unit.api.inference import InferenceSettings, MLIPInferenceCheckpoint

from ingest.families import Head, Structure


def checkpoint(model: Any) -> MLIPInferenceCheckpoint:
    """The model as the package's authors save it for inference."""
    state = model.network.state_dict()
    averaged = {"n_averaged": torch.tensor(0)} | {f"module.{k}": v for k, v in state.items()}
    return MLIPInferenceCheckpoint(model.config, state, averaged, model.tasks)


@cache
def calculator(model: Any) -> FAIRChemCalculator:
    """The package's ASE calculator, made once for a model: it wants the weights in a file."""
    settings = InferenceSettings(activation_checkpointing=False, external_graph_gen=False)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "inference_ckpt.pt"
        torch.save(checkpoint(model), path)
        unit = MLIPPredictUnit(str(path), model.device, inference_settings=settings)
    return FAIRChemCalculator(unit, task_name=model.task)


def features(model: Any, structure: Structure) -> dict[int, np.ndarray]:
    """What enters every block but the first, and the package's `node_embedding`."""
    found: dict[int, np.ndarray] = {}

    def keep(layer: int, _module: Any, inputs: Any) -> None:
        found[layer] = inputs[0][:, 0].detach().cpu().numpy().copy()

    def keep_last(_module: Any, _inputs: Any, output: dict[str, torch.Tensor]) -> None:
        found[model.last] = output["node_embedding"][:, 0].detach().cpu().numpy().copy()

    ase = calculator(model)
    backbone = ase.predictor.model.module.backbone
    hooks = [
        block.register_forward_pre_hook(partial(keep, layer))
        for layer, block in enumerate(backbone.blocks[1:])
    ]
    hooks.append(backbone.register_forward_hook(keep_last))
    atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
    try:
        ase.get_property("energy", atoms)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def head(model: Any) -> Head:
    """The task's head on atoms, each taken for a structure, and what its element has alone."""

    def energies(features: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        nothing: dict[str, Any] = {
            "positions": np.zeros((1, 3), np.float32),
            "cell": np.eye(3, dtype=np.float32),
        }
        nothing |= {"pbc": np.zeros(3, bool), "edges": np.zeros((2, 0), np.int64)}
        nothing["offsets"] = np.zeros((0, 3), np.float32)
        data = model._batch([nothing | {"numbers": number[None]} for number in numbers])
        data["batch_full"] = data["batch"]
        data["atomic_numbers_full"] = data["atomic_numbers"]
        (module,) = model.network.output_heads.values()
        model.network.backbone.regress_config.forces = False
        model.network.backbone.regress_config.stress = False
        rows = torch.from_numpy(features)[:, None].to(model.device)
        with torch.no_grad():
            output = module(data, {"node_embedding": rows, "batch": data["batch"]})
        found: np.ndarray = model._said(output, "energy", data).cpu().numpy().reshape(-1)
        return found

    return energies
