"""Energies and forces by the package's own network and heads, with the adapter's graphs.

The adapter's message passing is of operations that have no derivative.
"""

from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from orb_models.forcefield.conservative_regressor import ConservativeForcefieldRegressor

from ingest.families import Outputs, forces_of_edges
from ingest.transfer import to_device, to_host

KINDS = 118  # of atoms, in the package's one-hot vectors


def predict(
    regressor: Any, batch: SimpleNamespace, layers: Sequence[int], forces: bool
) -> tuple[dict[int, np.ndarray], Outputs]:
    """The layers, and the energies (eV) and forces (eV/Å) of one disjoint graph of all."""
    found: dict[int, np.ndarray] = {}

    def keep(layer: int, _block: object, _inputs: object, output: tuple[torch.Tensor, ...]) -> None:
        found[layer] = to_host(output[0])

    blocks = regressor.model.gnn_stacks
    hooks = [blocks[layer].register_forward_hook(partial(keep, layer)) for layer in layers]
    try:
        if isinstance(regressor, ConservativeForcefieldRegressor):
            return found, _conservative(regressor, batch, forces)
        with torch.inference_mode():
            said = regressor.predict(batch)
        energies = to_host(said["energy"].double().view(-1))
        return found, Outputs(energies, to_host(said["forces"]) if forces else None)
    finally:
        for hook in hooks:
            hook.remove()


def _conservative(regressor: Any, batch: SimpleNamespace, forces: bool) -> Outputs:
    vectors = batch.edge_features["vectors"].requires_grad_(forces)
    with torch.set_grad_enabled(forces):
        nodes = regressor.model(batch)["node_features"]
        energy = regressor.heads["energy"].predict(nodes, batch)
        if regressor.pair_repulsion:
            energy = energy + regressor.pair_repulsion_fn(batch)["energy"]
    energies = to_host(energy.double().view(-1))
    if not forces:
        return Outputs(energies, None)
    ends = batch.senders, batch.receivers
    return Outputs(energies, forces_of_edges(energy.sum(), vectors, *ends, len(nodes)))


def batch_of(
    tensors: Sequence[torch.Tensor], graphs: Sequence[Any], device: str
) -> SimpleNamespace:
    """What the package's network and heads read of its own batches.

    tensors: numbers, vectors, kinds, senders and receivers of all graphs.
    """
    numbers, vectors, kinds, senders, receivers = tensors
    one_hot = torch.nn.functional.one_hot(numbers, KINDS).to(vectors.dtype)
    cells = np.stack([graph["cell"] for graph in graphs]).astype(np.float32)
    positions = np.concatenate([graph["positions"] for graph in graphs]).astype(np.float32)
    return SimpleNamespace(
        senders=senders,
        receivers=receivers,
        n_node=torch.tensor([len(graph["numbers"]) for graph in graphs], device=device),
        n_edge=torch.tensor([len(graph["senders"]) for graph in graphs], device=device),
        atomic_numbers=numbers,
        positions=to_device(positions, device),
        node_features={"atomic_numbers": numbers, "atomic_numbers_embedding": one_hot},
        edge_features={"vectors": vectors[kinds]},
        system_features={"cell": to_device(cells, device)},
    )
