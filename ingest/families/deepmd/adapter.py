"""DPA-3 of DeePMD-kit: an atom's features after each RepFlow layer, which are all invariants.

The package's own layers, fed with one graph of all structures instead of padded neighbour lists:
an atom's distances and the angles at it, where the model selects neighbours dynamically.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import torch
from deepmd import env
from vesin import NeighborList

from ingest.families import (
    Outputs,
    Structure,
    asked,
    disjoint,
    outputs_of_edges,
    periodic_atoms,
    torch_device,
    verified,
    versions,
    weights_sha256,
)
from ingest.transfer import to_host

# The operators in the wheel are compiled for one version of torch, with CUDA and MPI. DPA-3 needs
# none of them, and the package does without where they are not.
env.SHARED_LIB_DIR = Path("no operators")
env.GLOBAL_CONFIG["cibuildwheel"] = "0"
from deepmd.pt.model.model import get_model  # noqa: E402
from deepmd.pt.utils.preprocess import compute_exp_sw, compute_smooth_weight  # noqa: E402


def build_graph(
    structure: Structure,
    type_of: Mapping[int, int],
    cutoff: float,
    angle_cutoff: float,
    most: tuple[int, int],
) -> dict[str, np.ndarray]:
    """Edges sorted by their start, their vectors, and the pairs of near edges of each start.

    Raises ValueError where the package would leave neighbours out.
    """
    atoms = periodic_atoms(structure, cutoff)
    start, end, vectors = NeighborList(cutoff=cutoff, full_list=True, sorted=True).compute(
        atoms.positions, atoms.cell.array, True, "ijD"
    )
    near = np.flatnonzero(np.linalg.norm(vectors, axis=1) < angle_cutoff)
    count = np.bincount(start[near].astype(np.int64), minlength=len(atoms))
    counts = np.bincount(start.astype(np.int64), minlength=len(atoms))
    if counts.max() > most[0] or count.max() > most[1]:
        raise ValueError(f"an atom has more than {most[0]} neighbours, or {most[1]} near ones")
    first = np.repeat(near, count[start[near]])
    before = np.repeat(np.cumsum(count) - count, count**2)
    within = np.arange(len(first)) - np.repeat(np.cumsum(count**2) - count**2, count**2)
    return {
        "types": np.array([type_of[number] for number in structure.numbers.tolist()]),
        "edges": np.stack((start, end)).astype(np.int64),
        "vectors": vectors.astype(np.float32),
        "pairs": np.stack((first, near[before + within % np.repeat(count, count**2)])),
    }


def network_of(card: Mapping[str, Any]) -> tuple[Any, dict[str, Any], str]:
    """The model of a card, what it is made from, and the SHA-256 of its file or random weights."""
    if card["seed"] is not None:
        made_from = json.loads(json.dumps(card["architecture"]))
        made_from["descriptor"]["seed"] = made_from["fitting_net"]["seed"] = card["seed"] + 1
        model = get_model(made_from)
        return model, made_from, weights_sha256(dict(model.named_parameters()))
    sha256 = verified(card["checkpoint"], card)
    with ZipFile(card["checkpoint"]) as archive:
        is_frozen = any("/code/" in name for name in archive.namelist())
    if is_frozen:
        frozen = torch.jit.load(card["checkpoint"], map_location="cpu")
        made_from, state = json.loads(frozen.get_model_def_script()), frozen.state_dict()
    else:
        made_from, state = checkpoint(card["checkpoint"], card["modality"])
    model = get_model(made_from)
    missing, _ = model.load_state_dict(state, strict=False)
    if unknown := [name for name in missing if name in dict(model.named_parameters())]:
        raise ValueError(f"the checkpoint lacks {', '.join(unknown[:3])}")
    return model, made_from, sha256


def checkpoint(path: str, head: str | None) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What one head of a training's checkpoint is made from, and its weights."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("model", state)
    made_from = state["_extra_state"]["model_params"]
    if "model_dict" in made_from:
        if head not in made_from["model_dict"]:
            raise ValueError(f"no head {head} (there are: {', '.join(made_from['model_dict'])})")
        made_from = made_from["model_dict"][head]
    else:
        head = "Default"
    prefix = f"model.{head}."
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return made_from, weights


class DeepMD:
    """A DPA-3 checkpoint, or its architecture with random weights."""

    def __init__(self, card: Mapping[str, Any], device: str) -> None:
        self.versions = versions("torch", "deepmd-kit", "vesin", "ase")
        self.device = torch_device(device)
        network, self.made_from, self.checkpoint_sha256 = network_of(card)
        if self.made_from["descriptor"]["type"] != "dpa3":
            raise ValueError(f"unsupported: {self.made_from['descriptor']['type']}, not dpa3")
        self.network = network.to(self.device).eval().requires_grad_(False)
        self.flows = network.atomic_model.descriptor.repflows
        if not self.flows.use_dynamic_sel or network.atomic_model.descriptor.add_chg_spin_ebd:
            raise ValueError("unsupported DPA-3: neighbours are not dynamic, or it has charges")
        self.cutoff = float(self.flows.e_rcut)
        self.elements = frozenset(card["elements"])
        self.layers = dict.fromkeys(range(self.flows.nlayers), self.flows.n_dim)
        from ase.data import atomic_numbers

        type_of = {atomic_numbers[each]: i for i, each in enumerate(self.made_from["type_map"])}
        self.graph = partial(
            build_graph,
            type_of=type_of,
            cutoff=self.cutoff,
            angle_cutoff=float(self.flows.a_rcut),
            most=(sum(self.flows.sel), int(self.flows.a_sel)),
        )

    @torch.inference_mode()
    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Runs the layers in order, and stops after the last requested one."""
        return asked(self._run(self._batch(graphs)), layers)

    def predict(
        self, graphs: Sequence[Any], layers: Sequence[int], forces: bool
    ) -> tuple[dict[int, np.ndarray], Outputs]:
        """Runs all layers and the fitting net."""
        types, (start, end), vectors, _ = batch = self._batch(graphs)
        vectors.requires_grad_(forces)
        with torch.set_grad_enabled(forces):
            rows = list(self._run(batch))
            atoms = self.energies(rows[-1], types)
        found = {layer: to_host(rows[layer]) for layer in layers}
        sizes = [len(graph["types"]) for graph in graphs]
        return found, outputs_of_edges(atoms, sizes, vectors, start, end, forces=forces)

    def energies(self, features: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        """(atoms,) float64: the fitting net of the last layer, and what an element has alone."""
        model = self.network.atomic_model
        fitted = model.fitting_net(features[None], types[None])
        found: torch.Tensor = model.apply_out_stat(fitted, types[None])["energy"]
        return found.view(-1).double()

    def _run(self, batch: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The features of atoms that leave each layer."""
        flows, (types, edges, vectors, (first, second)) = self.flows, batch
        lengths = torch.linalg.norm(vectors, dim=1, keepdim=True)
        switch = self._switch(lengths, flows.e_rcut_smth, flows.e_rcut)
        near = self._switch(lengths, flows.a_rcut_smth, flows.a_rcut)[:, 0]
        mean, deviation = (each[types[edges[0]], 0] for each in (flows.mean, flows.stddev))
        protected = lengths + flows.env_protection
        matrix = torch.cat((1 / protected, vectors / protected**2), dim=1) * switch
        matrix = (matrix - mean) / deviation
        if flows.edge_init_use_dist:
            bonds = flows.edge_embd(lengths)
        else:
            bonds = flows.act(flows.edge_embd(matrix[:, :1]))
        units = vectors / (lengths + 1e-6)
        cosines = (units[first] * units[second]).sum(1, keepdim=True) * (1 - 1e-6)
        angles = flows.angle_embd(cosines / torch.pi**0.5)
        atoms = flows.act(self.network.atomic_model.descriptor.type_embedding(types[None]))
        nowhere = torch.empty(1, len(types), 0, dtype=torch.long, device=self.device)
        for layer in flows.layers:
            atoms, bonds, angles = layer(
                atoms,
                bonds,
                matrix[:, 1:],
                angles,
                nowhere,
                nowhere,
                switch[:, 0],
                nowhere,
                nowhere,
                near[first] * near[second],
                edge_index=edges,
                angle_index=torch.stack((edges[0, first], first, second)),
            )
            yield atoms[0]

    def _switch(self, lengths: torch.Tensor, smooth: float, cutoff: float) -> torch.Tensor:
        function = compute_exp_sw if self.flows.use_exp_switch else compute_smooth_weight
        weights: torch.Tensor = function(lengths, smooth, cutoff)
        return weights

    def _batch(self, graphs: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        """One disjoint graph of all: types, edges, their vectors, and pairs of edges."""
        points_into = {"edges": "types", "pairs": "vectors"}
        return tuple(disjoint(graphs, points_into, self.device).values())


load = DeepMD
