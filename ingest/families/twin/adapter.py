"""The supervision twins: one small network, trained with one kind of supervision or another."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from ingest.families import part, torch_device, verified, versions, weights_sha256
from ingest.transfer import to_host


class Twin:
    """A twin's checkpoint, which `training.py` writes, or the random weights where twins begin."""

    def __init__(self, card: Mapping[str, Any], device: str) -> None:
        self._module = part(card, "network")
        self.versions = versions("torch", "matscipy", "ase", "numpy")
        self.device = torch_device(device)
        if card["checkpoint"] is None:
            network = self._module.untrained(card["architecture"], card["seed"] or 0)
            self.checkpoint_sha256 = weights_sha256(
                dict(network.named_parameters()), network.state_dict()
            )
        else:
            self.checkpoint_sha256 = verified(card["checkpoint"], card)
            network = self._module.trained(card["checkpoint"])
        self._network = network.to(self.device).eval().requires_grad_(False)
        self.cutoff = float(network.cutoff)
        self.elements = frozenset(card["elements"])
        features = network.elements.embedding_dim
        self.layers = dict.fromkeys(range(len(network.layers)), features)
        self.graph = partial(self._module.build_graph, cutoff=self.cutoff)

    @torch.inference_mode()
    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Runs the layers in order, and stops after the last requested one."""
        graph = self._module.side_by_side(graphs, self.device)
        found = self._network.embed(graph, max(layers) + 1)
        return {layer: to_host(found[layer]) for layer in layers}


load = Twin
