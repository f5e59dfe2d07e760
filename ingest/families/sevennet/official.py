"""SevenNet's own calculator, and its own head on our last layer."""

from copy import deepcopy
from typing import Any

import sevenn._keys as KEY
import torch
from sevenn.calculator import SevenNetCalculator

from ingest.families import Structure


def calculator(model: Any) -> SevenNetCalculator:
    """The package's own, around a copy: it changes how the network reads a batch."""
    return SevenNetCalculator(
        deepcopy(model._model),
        file_type="model_instance",
        device=model.device,
        modal=model.modality,
    )


@torch.inference_mode()
def energy(model: Any, structure: Structure) -> float:
    """eV: all modules after the last gate, the forces' excepted."""
    last = max(model.layers)
    graph = model.graph(structure)
    features = torch.from_numpy(model.embed([graph], [last])[last]).to(model.device)
    modules = dict(model._model.named_children())
    data = model._batch([graph])
    data[KEY.ATOM_TYPE] = data[KEY.NODE_FEATURE]  # the species, by which the energy is shifted
    data[KEY.NODE_FEATURE] = features
    names = list(modules)
    head = names[names.index(f"{last}_equivariant_gate") + 1 : names.index("force_output")]
    for name in ["one_hot_modality", *head] if model.modality else head:
        data = modules[name](data)
    return float(data[KEY.PRED_TOTAL_ENERGY])
