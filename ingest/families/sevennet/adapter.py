"""SevenNet: the invariant scalars that leave each interaction block's equivariant gate."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from matscipy.neighbours import neighbour_list

from ingest.families import (
    Outputs,
    Structure,
    disjoint,
    outputs_of_edges,
    torch_device,
    verified,
    versions,
    weights_sha256,
)
from ingest.imports import never_compiled
from ingest.neighbours import neighbours
from ingest.transfer import to_device, to_host

with never_compiled():
    import sevenn._keys as KEY
    import sevenn.util
    from e3nn.o3 import FullTensorProduct
    from sevenn._const import CHECKPOINT_DOWNLOAD_LINKS, DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG
    from sevenn.checkpoint import SevenNetCheckpoint
    from sevenn.model_build import build_E3_equivariant_model
    from sevenn.util import chemical_species_preprocess, pretrained_name_to_path

GATE = "_equivariant_gate"
NEEDED = {KEY.ATOMIC_NUMBERS: np.int64, KEY.EDGE_IDX: np.int64, KEY.EDGE_VEC: np.float32}
UNTRAINED = {KEY.SHIFT: 0.0, KEY.SCALE: 1.0, KEY.CUEQUIVARIANCE_CONFIG: {}, KEY.USE_FLASH_TP: False}
# It is asked for its irreps alone, and would generate code.
vars(sevenn.util)["FullTensorProduct"] = partial(FullTensorProduct, compile_left_right=False)
CHECKPOINT_DOWNLOAD_LINKS.clear()  # the package finds what is here, and downloads nothing


def checkpoint_path(card: Mapping[str, Any]) -> str:
    """The card's checkpoint, else the package's own file."""
    try:
        return card["checkpoint"] or pretrained_name_to_path(card["loader"])
    except FileNotFoundError:
        missing = f"the checkpoint of {card['name']} is not in its package, and none was given"
        raise (FileNotFoundError if card["seed"] is None else ValueError)(missing) from None


def network(card: Mapping[str, Any]) -> tuple[torch.nn.Module, str]:
    """The network of a card, trained or initialised at random, and its weights' SHA-256."""
    if card["seed"] is None or card["architecture"] is None:
        path = checkpoint_path(card)
        sha256 = verified(path, card)
        checkpoint = SevenNetCheckpoint(path)
        model = checkpoint.build_model()
        if card["seed"] is None:
            return model, sha256
        # What sums over neighbours are divided by: older checkpoints have it in the weights only.
        weights = model.state_dict().items()
        divisors = [value.item() for name, value in weights if name.endswith(".denominator")]
        config = checkpoint.config | {KEY.CONV_DENOMINATOR: divisors}
    else:
        species = chemical_species_preprocess([], universal=True)
        config = DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG | species | card["architecture"]
    torch.manual_seed(card["seed"])
    model = build_E3_equivariant_model(config | UNTRAINED)
    return model, weights_sha256(dict(model.named_parameters()), model.state_dict())


def build_graph(structure: Structure, cutoff: float) -> dict[str, np.ndarray]:
    """The graph of `sevenn.train.dataload`, less what only energies and forces need.

    By the library that it calls: to import it takes seconds, of torch_geometric and scikit-learn.
    Lattice vectors without periodicity come last: it puts long Cartesian axes in their place.
    """
    order = np.argsort(~structure.pbc, kind="stable")
    frame, cell = np.linalg.qr(structure.cell[order].T)
    positions, pbc = structure.positions @ frame, structure.pbc[order]
    length = 5 * cutoff * (np.abs(positions).max() + 1)
    cell = np.where(pbc[:, None], cell.T, length * np.eye(3))
    source, target, vectors = neighbour_list(
        "ijD", pbc=pbc, cell=cell, positions=positions, cutoff=cutoff
    )
    graph = {
        KEY.ATOMIC_NUMBERS: structure.numbers,
        KEY.EDGE_IDX: np.stack([source, target]),
        KEY.EDGE_VEC: vectors @ frame.T,
    }
    return {key: graph[key].astype(dtype) for key, dtype in NEEDED.items()}


class SevenNet:
    """A SevenNet checkpoint; for a multi-fidelity one, at the card's `modality`."""

    def __init__(self, card: Mapping[str, Any], device: str) -> None:
        model, self.checkpoint_sha256 = network(card)
        self.versions = versions("torch", "sevenn", "e3nn", "matscipy", "ase")
        self.device = torch_device(device)
        self._model = cast(Any, model.to(self.device).eval().requires_grad_(False))
        self._model.set_is_batch_data(True)
        self.modality = card["modality"]
        known = self._model.modal_map or {}
        if self.modality not in (known or {None}):
            raise ValueError(f"no modality {self.modality}: the checkpoint has {list(known)}")
        self._modality = known.get(self.modality)
        self.cutoff = float(self._model.cutoff)
        # Some checkpoints have a row for every element, trained or not: the card knows.
        self.elements = frozenset(card["elements"]) & frozenset(self._model.type_map)
        self._scalars = {
            int(name.removesuffix(GATE)): _invariant(module.gate.irreps_out)
            for name, module in self._model.named_children()
            if name.endswith(GATE)
        }
        self.layers = {layer: len(columns) for layer, columns in self._scalars.items()}
        self.graph = partial(build_graph, cutoff=self.cutoff)

    def graphs(self, structures: Sequence[Structure]) -> list[dict[str, Any]]:
        """`graph` of many at once, on the device."""
        found = neighbours(structures, self.cutoff, self.device)
        return [
            {
                KEY.ATOMIC_NUMBERS: one.numbers.astype(np.int64),
                KEY.EDGE_IDX: edges,
                KEY.EDGE_VEC: vectors,
            }
            for one, (edges, vectors) in zip(structures, found, strict=True)
        ]

    @torch.inference_mode()
    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Runs the model's modules in order, and stops after the last requested layer."""
        data = self._batch(graphs)
        return dict(self._layers(data, layers, after=max(layers)))

    def predict(
        self, graphs: Sequence[Any], layers: Sequence[int], forces: bool
    ) -> tuple[dict[int, np.ndarray], Outputs]:
        """Runs all modules but the last, which would want positions: forces are from edges."""
        data = self._batch(graphs)
        vectors = data[KEY.EDGE_VEC].requires_grad_(forces)
        with torch.set_grad_enabled(forces):
            found = dict(self._layers(data, layers))
        atoms = data[KEY.ATOMIC_ENERGY].view(-1)
        sizes, (start, end) = data[KEY.NUM_ATOMS].tolist(), data[KEY.EDGE_IDX]
        return found, outputs_of_edges(atoms, sizes, vectors, start, end, forces=forces)

    def _layers(
        self, data: dict[str, torch.Tensor], layers: Sequence[int], after: int | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Runs modules on `data`, up to a layer or to the atoms' energies."""
        for name, module in self._model.named_children():
            if name == "force_output":
                return
            data.update(module(data))
            if name.endswith(GATE) and (layer := int(name.removesuffix(GATE))) in layers:
                yield layer, to_host(data[KEY.NODE_FEATURE][:, self._scalars[layer]])
                if layer == after:
                    return

    def _batch(self, graphs: Sequence[Any]) -> dict[str, torch.Tensor]:
        """One disjoint graph of all, in the keys that the model's modules read."""
        sizes = np.array([len(graph[KEY.ATOMIC_NUMBERS]) for graph in graphs])
        data = disjoint(graphs, {KEY.EDGE_IDX: KEY.ATOMIC_NUMBERS}, self.device)
        data[KEY.NUM_ATOMS] = to_device(sizes, self.device)
        data[KEY.BATCH] = to_device(np.repeat(np.arange(len(graphs)), sizes), self.device)
        species = self._model.z_to_onehot_tensor.to(self.device)
        data[KEY.NODE_FEATURE] = species[data[KEY.ATOMIC_NUMBERS]]
        if self._modality is not None:
            data[KEY.MODAL_TYPE] = torch.full((len(graphs),), self._modality, device=self.device)
        return data


def _invariant(irreps: Any) -> list[int]:
    """The columns of the 0e scalars. The 0o ones, whose sign a mirror turns, may come first."""
    parts = zip(irreps, irreps.slices(), strict=True)
    return [i for part, its in parts if part.ir.is_scalar() for i in range(its.start, its.stop)]


load = SevenNet
