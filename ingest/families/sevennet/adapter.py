"""SevenNet: the invariant scalars that leave each interaction block's equivariant gate."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import sevenn._keys as KEY
import torch
from ase import Atoms
from sevenn.train.dataload import unlabeled_atoms_to_graph
from sevenn.util import load_checkpoint, pretrained_name_to_path

from ingest.families import Structure, torch_device, verified, versions

GATE = "_equivariant_gate"


def build_graph(structure: Structure, cutoff: float) -> dict[str, np.ndarray]:
    """The package's own graph, less what only energies and forces need."""
    atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
    graph = unlabeled_atoms_to_graph(atoms, cutoff)
    return {
        KEY.ATOMIC_NUMBERS: graph[KEY.ATOMIC_NUMBERS].astype(np.int64),
        KEY.EDGE_IDX: graph[KEY.EDGE_IDX].astype(np.int64),
        KEY.EDGE_VEC: graph[KEY.EDGE_VEC].astype(np.float32),
    }


class SevenNet:
    """A SevenNet checkpoint; for a multi-fidelity one, at the card's `modality`."""

    def __init__(self, card: Mapping[str, Any], device: str) -> None:
        path = pretrained_name_to_path(card["loader"])
        self.checkpoint_sha256 = verified(path, card)
        self.versions = versions("torch", "sevenn", "e3nn", "matscipy", "ase")
        self.device = torch_device(device)
        model = load_checkpoint(path).build_model().to(self.device)
        self._model = cast(Any, model.eval())
        self._model.set_is_batch_data(True)
        self._modality = self._modality_index(card.get("modality"))
        self.cutoff = float(self._model.cutoff)
        self.elements = frozenset(self._model.type_map)
        self.layers = {
            int(name.removesuffix(GATE)): module.gate.irreps_out.count("0e")
            for name, module in self._model.named_children()
            if name.endswith(GATE)
        }
        self.graph = partial(build_graph, cutoff=self.cutoff)

    def _modality_index(self, modality: str | None) -> int | None:
        known = self._model.modal_map or {}
        if (modality is None) != (not known) or (known and modality not in known):
            raise ValueError(f"modality {modality}: the checkpoint has {list(known) or 'none'}")
        return None if modality is None else known[modality]

    @torch.inference_mode()
    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Runs the model's modules in order, and stops after the last layer wanted."""
        data = self._batch(graphs)
        found = {}
        for name, module in self._model.named_children():
            data = module(data)
            if name.endswith(GATE):
                layer = int(name.removesuffix(GATE))
                if layer in layers:
                    # The gate puts its 0e scalars first.
                    scalars = data[KEY.NODE_FEATURE][:, : self.layers[layer]]
                    found[layer] = scalars.cpu().numpy().copy()
                if layer == max(layers):
                    break
        return found

    def _batch(self, graphs: Sequence[Any]) -> dict[str, torch.Tensor]:
        """One disjoint graph of all, in the keys that the model's modules read."""
        sizes = np.array([len(graph[KEY.ATOMIC_NUMBERS]) for graph in graphs])
        first = np.cumsum(sizes) - sizes
        arrays = {
            KEY.ATOMIC_NUMBERS: np.concatenate([g[KEY.ATOMIC_NUMBERS] for g in graphs]),
            KEY.EDGE_IDX: np.concatenate(
                [g[KEY.EDGE_IDX] + shift for g, shift in zip(graphs, first, strict=True)], axis=1
            ),
            KEY.EDGE_VEC: np.concatenate([g[KEY.EDGE_VEC] for g in graphs]),
            KEY.BATCH: np.repeat(np.arange(len(graphs)), sizes),
            KEY.NUM_ATOMS: sizes,
        }
        data = {key: torch.from_numpy(array).to(self.device) for key, array in arrays.items()}
        species = self._model.z_to_onehot_tensor.to(self.device)
        data[KEY.NODE_FEATURE] = species[data[KEY.ATOMIC_NUMBERS]]
        if self._modality is not None:
            data[KEY.MODAL_TYPE] = torch.full((len(graphs),), self._modality, device=self.device)
        return data


load = SevenNet
