"""eSEN and UMA: the scalars (l = 0) that each block hands on; the last are normalised.

The last is what the package calls node_embedding, and what its head reads. UMA's features depend on
the task (`modality`) that a card asks for: it chooses among the experts.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import hydra
import numpy as np
import torch
from ase.geometry import complete_cell
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.models.uma.escn_md import GradRegressConfig
from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint
from fairchem.core.units.mlip_unit.utils import load_inference_model
from matscipy.neighbours import neighbour_list

from ingest.families import (
    Outputs,
    Structure,
    pieces,
    torch_device,
    verified,
    versions,
    weights_sha256,
)
from ingest.transfer import to_device, to_host

# Edges are given to the network; nothing is computed twice to save memory.
GIVEN = {"otf_graph": False, "always_use_pbc": False, "activation_checkpointing": False}
CPU_EDGES = 2000  # in a forward pass on a CPU: what leaves the caches is slow
UNITS = "fairchem.core.units.mlip_unit.mlip_unit"
NORMALIZATION = "fairchem.core.modules.normalization"


def build_graph(structure: Structure, cutoff: float) -> dict[str, np.ndarray]:
    """All neighbours within the cutoff, as the package's own edges: from neighbour to atom."""
    cell = complete_cell(structure.cell * structure.pbc[:, None])
    atoms, neighbours, offsets = neighbour_list(
        "ijS", pbc=structure.pbc, cell=cell, positions=structure.positions, cutoff=cutoff
    )
    return {
        "numbers": structure.numbers.astype(np.int64),
        "positions": structure.positions.astype(np.float32),
        "cell": cell.astype(np.float32),
        "pbc": structure.pbc,
        "edges": np.stack([neighbours, atoms]).astype(np.int64),
        "offsets": offsets.astype(np.float32),
    }


def untrained_tasks(task: str) -> list[dict[str, Any]]:
    """Energies and forces of one task, as a checkpoint has them."""
    scale = {"_target_": f"{NORMALIZATION}.normalizer.Normalizer", "mean": 0.0, "rmsd": 1.423}
    alone = {
        "_target_": f"{NORMALIZATION}.element_references.ElementReferences",
        "element_references": {"_target_": "torch.DoubleTensor", "_args_": [[-1.0] * 101]},
    }
    tasks = []
    for name, level, dim in (("energy", "system", 1), ("forces", "atom", 3)):
        about: dict[str, Any] = {"_target_": f"{UNITS}.Task", "name": f"{task}_{name}"}
        about |= {"level": level, "property": name, "datasets": [task], "normalizer": scale}
        about["out_spec"] = {"dim": [dim], "dtype": "float32"}
        tasks.append(about | ({"element_references": alone} if name == "energy" else {}))
    return tasks


def trained(path: str) -> MLIPInferenceCheckpoint:
    """A checkpoint as its authors publish it."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    if not isinstance(checkpoint, MLIPInferenceCheckpoint):
        raise ValueError(f"{path} is not a checkpoint for inference of fairchem-core 2")
    return checkpoint


class Fairchem:
    """One task of an inference checkpoint of fairchem, or its architecture with random weights."""

    def __init__(self, card: Mapping[str, Any], device: str) -> None:
        self.versions = versions("torch", "fairchem-core", "e3nn", "matscipy", "ase")
        self.device, self.task = torch_device(device), card["modality"]
        if card["seed"] is None:
            self.checkpoint_sha256 = verified(card["checkpoint"], card)
            checkpoint = trained(card["checkpoint"])
            self.config, self.tasks = checkpoint.model_config, checkpoint.tasks_config
            network = load_inference_model(
                card["checkpoint"],
                overrides={"backbone": GIVEN},
                use_ema=True,
                return_checkpoint=False,
                preloaded_checkpoint=checkpoint,
            ).module
        else:
            self.config = copy.deepcopy(card["architecture"])
            self.config["backbone"] |= GIVEN
            self.tasks = untrained_tasks(self.task)
            torch.manual_seed(card["seed"])
            network = hydra.utils.instantiate(self.config)
            self.checkpoint_sha256 = weights_sha256(dict(network.named_parameters()))
        network.setup_tasks(self.tasks)
        self.network = network.float().to(self.device).eval().requires_grad_(False)
        for task in network.tasks.values():
            task.normalizer.to(self.device)
            if task.element_references is not None:
                task.element_references.to(self.device)
        self.cutoff = float(network.backbone.cutoff)
        # A checkpoint has rows for a hundred elements: the card says which have been trained.
        self.elements = frozenset(card["elements"])
        self.last = network.backbone.num_layers - 1
        self.layers = dict.fromkeys(range(self.last + 1), network.backbone.sphere_channels)
        self.graph = partial(build_graph, cutoff=self.cutoff)

    @torch.inference_mode()
    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Runs the package's backbone up to the last wanted block."""
        backbone = copy.copy(self.network.backbone)
        backbone.num_layers = max(layers) + 1
        backbone.regress_config = GradRegressConfig()
        parts = []
        for piece in self._pieces(graphs):
            with self._kept(layers) as found, same_roll():
                last = backbone(self._batch(piece))["node_embedding"]
            parts.append(self._features(found, layers, last))
        return joined(parts)

    def predict(
        self, graphs: Sequence[Any], layers: Sequence[int], forces: bool
    ) -> tuple[dict[int, np.ndarray], Outputs]:
        """The package's backbone, head and scales."""
        said = [self._predict(piece, layers, forces) for piece in self._pieces(graphs)]
        energies = torch.cat([one["energy"].double().view(-1) for _, one in said])
        both = to_host(torch.cat([one["forces"].float() for _, one in said])) if forces else None
        return joined([features for features, _ in said]), Outputs(to_host(energies), both)

    def _predict(
        self, graphs: Sequence[Any], layers: Sequence[int], forces: bool
    ) -> tuple[dict[int, torch.Tensor], dict[str, torch.Tensor]]:
        network, data = self.network, self._batch(graphs)
        network.backbone.regress_config.forces = forces
        network.backbone.regress_config.stress = False
        last: list[torch.Tensor] = []
        hook = network.backbone.register_forward_hook(
            lambda _module, _inputs, output: last.append(output["node_embedding"])
        )
        try:
            with self._kept(layers) as found, same_roll(), torch.set_grad_enabled(forces):
                output = network(data)
        finally:
            hook.remove()
        asked = ("energy", "forces") if forces else ("energy",)
        said = {what: self._said(output, what, data) for what in asked}
        return self._features(found, layers, last[0]), said

    def _features(
        self, found: Mapping[int, torch.Tensor], layers: Sequence[int], last: torch.Tensor
    ) -> dict[int, torch.Tensor]:
        """(atoms, channels) of each layer: of (atoms, (lmax + 1)², channels), those of l = 0."""
        whole = {layer: last if layer == self.last else found[layer] for layer in layers}
        return {layer: one[:, 0].detach().clone() for layer, one in whole.items()}

    def _pieces(self, graphs: Sequence[Any]) -> Iterator[list[Any]]:
        """What goes through the network at once: on a GPU all of them."""
        if self.device != "cpu":
            return iter([list(graphs)])
        return pieces(graphs, [graph["edges"].shape[1] for graph in graphs], CPU_EDGES)

    def _said(self, output: Mapping[str, Any], what: str, data: Any) -> torch.Tensor:
        """What the head says, in eV and Å, as the package's predictor has it."""
        name = f"{self.task}_{what}"
        task = self.network.tasks[name]
        values = task.normalizer.denorm(output[name][what].detach())
        if task.element_references is not None:
            values = task.element_references.undo_refs(data, values)
        found: torch.Tensor = values
        return found

    @contextmanager
    def _kept(self, layers: Sequence[int]) -> Iterator[dict[int, torch.Tensor]]:
        """What these layers, but the last, hand on to the next block or the last norm."""
        backbone, found = self.network.backbone, {}
        after = dict(enumerate(backbone.blocks[1:]))

        def keep(layer: int, _module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            found[layer] = inputs[0].detach()

        def keep_last(_module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            found.setdefault(max(layers, default=self.last), inputs[0].detach())

        hooks = [
            after[layer].register_forward_pre_hook(partial(keep, layer))
            for layer in layers
            if layer < max(layers)
        ]
        hooks.append(backbone.norm.register_forward_pre_hook(keep_last))
        try:
            yield found
        finally:
            for hook in hooks:
                hook.remove()

    def _batch(self, graphs: Sequence[Any]) -> AtomicData:
        """All structures in one, as the package has them."""
        sizes = np.array([len(graph["numbers"]) for graph in graphs])
        first = np.cumsum(sizes) - sizes
        edges = [graph["edges"] + i for graph, i in zip(graphs, first, strict=True)]
        arrays = SimpleNamespace(
            pos=np.concatenate([graph["positions"] for graph in graphs]),
            atomic_numbers=np.concatenate([graph["numbers"] for graph in graphs]),
            cell=np.stack([graph["cell"] for graph in graphs]),
            pbc=np.stack([graph["pbc"] for graph in graphs]),
            natoms=sizes,
            edge_index=np.concatenate(edges, axis=1),
            cell_offsets=np.concatenate([graph["offsets"] for graph in graphs]),
            nedges=np.array([graph["edges"].shape[1] for graph in graphs]),
            charge=np.zeros(len(graphs), np.int64),
            # Of omol, a spin multiplicity; no other task knows of spins.
            spin=np.full(len(graphs), int(self.task == "omol")),
            fixed=np.zeros(sizes.sum(), np.int64),
            tags=np.zeros(sizes.sum(), np.int64),
            batch=np.repeat(np.arange(len(graphs)), sizes),
        )
        tensors = {name: to_device(array, self.device) for name, array in vars(arrays).items()}
        return AtomicData(**tensors, dataset=[self.task] * len(graphs), sid=[""] * len(graphs))


@contextmanager
def same_roll() -> Iterator[None]:
    """The package turns every edge's frame by a random angle about the edge: here by the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def joined(parts: Sequence[Mapping[int, torch.Tensor]]) -> dict[int, np.ndarray]:
    """Each layer's rows, one piece's after the other's."""
    return {layer: to_host(torch.cat([part[layer] for part in parts])) for layer in parts[0]}


load = Fairchem
