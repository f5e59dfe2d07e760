"""SevenNet's own calculator, and its own head on the last layer."""

from copy import deepcopy
from typing import Any

import numpy as np
import sevenn._keys as KEY
import torch
from sevenn.calculator import SevenNetCalculator

from ingest.families import Head

NO_EDGES = {
    KEY.EDGE_IDX: np.empty((2, 0), dtype=np.int64),
    KEY.EDGE_VEC: np.empty((0, 3), dtype=np.float32),
}


def calculator(model: Any) -> SevenNetCalculator:
    """The package's own, around a copy: it changes how the network reads a batch."""
    return SevenNetCalculator(
        deepcopy(model._model),
        file_type="model_instance",
        device=model.device,
        modal=model.modality,
    )


def head(model: Any) -> Head:
    """All modules after the last gate, up to where atoms are summed."""
    modules = dict(model._model.named_children())
    names = list(modules)
    first = names.index(f"{max(model.layers)}_equivariant_gate") + 1
    after = names[first : names.index("force_output")]

    @torch.inference_mode()
    def energies(features: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        # As one structure: it is the atoms that are asked for.
        data = model._batch([{KEY.ATOMIC_NUMBERS: numbers, **NO_EDGES}])
        data[KEY.ATOM_TYPE] = data[KEY.NODE_FEATURE]  # the species, by which the energy is shifted
        data[KEY.NODE_FEATURE] = torch.from_numpy(features).to(model.device)
        for name in ["one_hot_modality", *after] if model.modality else after:
            data = modules[name](data)
        found: np.ndarray = data[KEY.ATOMIC_ENERGY][:, 0].cpu().numpy()
        return found

    return energies
