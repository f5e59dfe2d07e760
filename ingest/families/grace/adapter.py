"""GRACE: the invariant scalars of each reduction of basis functions, by the package's own steps.

A network is a list of instructions. The reductions among them (`FunctionReduceN`) are what it has
instead of layers: what an atom sends to its neighbours, and what energies are read from. TensorFlow
runs them one by one, on one disjoint graph of all structures, without padding.
"""

import os
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matscipy.neighbours import neighbour_list

from ingest.families import (
    Outputs,
    Structure,
    periodic_atoms,
    verified,
    versions,
    weights_sha256,
)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
with redirect_stdout(None):  # it greets
    import tensorpotential  # noqa: F401  # before tensorflow, which it configures
import tensorflow as tf
from tensorpotential import TPModel, constants
from tensorpotential.instructions import FunctionReduceN, load_instructions
from tensorpotential.metadata_utils import resolve_param_dtype
from tensorpotential.potentials import get_preset
from tensorpotential.tpmodel import extract_cutoff_and_elements, extract_cutoff_matrix

# As torch and OpenMP have it in a worker; 0 is all cores.
tf.config.threading.set_intra_op_parallelism_threads(int(os.environ.get("OMP_NUM_THREADS", "0")))


def build_graph(
    structure: Structure, type_of: Mapping[int, int], cutoff: float
) -> dict[str, np.ndarray]:
    """Types of atoms, edges as their two ends, and the vectors from the first to the second."""
    atoms = periodic_atoms(structure, cutoff)
    start, end, vectors = neighbour_list("ijD", atoms, cutoff)
    return {
        "types": np.array([type_of[number] for number in structure.numbers.tolist()], np.int32),
        "edges": np.stack((start, end)).astype(np.int32),
        "vectors": vectors.astype(np.float64),
    }


def trained(path: Path) -> TPModel:
    """The network of an archive (.tar.gz) of `model.yaml` and a checkpoint, as it is published.

    Raises ValueError if it is none, or lacks a weight.
    """
    with TemporaryDirectory() as folder:
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
        found = sorted(Path(folder).rglob("model.yaml"))
        prefixes = sorted(Path(folder).rglob("*.index"))
        if len(found) != 1 or len(prefixes) != 1:
            raise ValueError("there must be one model.yaml and one checkpoint (.index) in it")
        network = TPModel(load_instructions(str(found[0])))
        network.build(resolve_param_dtype(str(found[0])))
        status = tf.train.Checkpoint(model=network).read(str(prefixes[0].with_suffix("")))
        try:
            status.assert_existing_objects_matched()
        except AssertionError as error:
            raise ValueError(f"the checkpoint lacks weights: {error}") from None
        status.expect_partial()
    return network


def untrained(card: Mapping[str, Any]) -> TPModel:
    """The network of a card with random weights."""
    from ase.data import chemical_symbols

    symbols = sorted(chemical_symbols[number] for number in card["elements"])
    settings = dict(card["architecture"])
    preset = get_preset(settings.pop("preset"))
    tf.random.set_seed(card["seed"])
    element_map = {symbol: i for i, symbol in enumerate(symbols)}
    network = TPModel(preset(element_map=element_map, **settings).get_instructions())
    network.build(tf.float32)
    return network


class Grace:
    """A GRACE checkpoint, or its architecture with random weights."""

    def __init__(self, card: Mapping[str, Any], device: str) -> None:
        if device not in ("auto", "cpu"):
            raise ValueError("GRACE runs here on the CPU alone")
        tf.config.set_visible_devices([], "GPU")
        self.versions = versions("tensorflow-cpu", "tensorpotential", "matscipy", "ase")
        self.device = "cpu"
        if card["seed"] is None:
            self.checkpoint_sha256 = verified(card["checkpoint"], card)
            self.network = trained(Path(card["checkpoint"]))
        else:
            self.network = untrained(card)
            variables = {v.name: v.numpy() for v in self.network.trainable_variables}
            self.checkpoint_sha256 = weights_sha256(variables)
        self.instructions: dict[str, Any] = dict(self.network.instructions)
        if extract_cutoff_matrix(self.instructions) is not None:
            raise ValueError("unsupported GRACE: its cutoff is of each pair of elements")
        cutoff, symbols, types = extract_cutoff_and_elements(self.instructions)
        self.cutoff = float(cutoff)
        from ase.data import atomic_numbers

        type_of = {
            atomic_numbers[str(symbol)]: int(i) for symbol, i in zip(symbols, types, strict=True)
        }
        self.elements = frozenset(type_of)
        self.reductions = [
            name for name, each in self.instructions.items() if isinstance(each, FunctionReduceN)
        ]
        self.layers = {
            layer: int(self.instructions[name].n_out) * len(self._columns(name))
            for layer, name in enumerate(self.reductions)
        }
        self.graph = partial(build_graph, type_of=type_of, cutoff=self.cutoff)

    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Runs the instructions in order, and stops after the last requested reduction."""
        data = self._batch(graphs)
        self._run(data, self.reductions[max(layers)])
        return {layer: self._scalars(data, layer) for layer in layers}

    def predict(
        self, graphs: Sequence[Any], layers: Sequence[int], forces: bool
    ) -> tuple[dict[int, np.ndarray], Outputs]:
        """Runs all instructions; the force on an edge is minus the energy's gradient by it."""
        data = self._batch(graphs)
        vectors = data[constants.BOND_VECTOR]
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            self._run(data)
            atoms = tf.reshape(data[constants.PREDICT_ATOMIC_ENERGY], [-1])
        first = np.cumsum([0, *(len(graph["types"]) for graph in graphs[:-1])])
        energies = np.add.reduceat(atoms.numpy().astype(np.float64), first)
        found = {layer: self._scalars(data, layer) for layer in layers}
        if not forces:
            return found, Outputs(energies, None)
        pulls = np.zeros((len(atoms), 3))
        if (gradient := tape.gradient(atoms, vectors)) is not None:
            start, end = (
                data[name].numpy() for name in (constants.BOND_IND_I, constants.BOND_IND_J)
            )
            np.add.at(pulls, start, gradient.numpy())
            np.subtract.at(pulls, end, gradient.numpy())
        return found, Outputs(energies, pulls.astype(np.float32))

    def _run(self, data: dict[str, Any], last: str | None = None) -> None:
        """Each instruction puts its output into `data`, by its name."""
        for name, instruction in self.instructions.items():
            instruction(data, training=False, local=False)
            if name == last:
                return

    def _columns(self, name: str) -> np.ndarray:
        """Which of a reduction's components are even scalars."""
        reduction = self.instructions[name]
        if reduction.only_invar:
            return np.array([0])
        kinds = reduction.coupling_meta_data
        return np.flatnonzero((kinds["l"] == 0) & (kinds["parity"] == 1))

    def _scalars(self, data: Mapping[str, Any], layer: int) -> np.ndarray:
        """(atoms, dim) float32."""
        name = self.reductions[layer]
        values = data[name].numpy()  # (atoms, functions, components)
        if self.instructions[name].lm_first:
            values = values.transpose(1, 2, 0)
        rows: np.ndarray = values[:, :, self._columns(name)]
        return rows.reshape(len(rows), -1).astype(np.float32)

    def _batch(self, graphs: Sequence[Any]) -> dict[str, Any]:
        """One disjoint graph of all, as the package's instructions want it."""
        sizes = np.array([len(graph["types"]) for graph in graphs])
        first = np.cumsum(sizes) - sizes
        types = np.concatenate([graph["types"] for graph in graphs])
        edges = [graph["edges"] + i for graph, i in zip(graphs, first, strict=True)]
        start, end = np.concatenate(edges, axis=1).astype(np.int32)
        arrays = {
            constants.ATOMIC_MU_I: types,
            constants.BOND_IND_I: start,
            constants.BOND_IND_J: end,
            constants.BOND_MU_I: types[start],
            constants.BOND_MU_J: types[end],
            constants.BOND_VECTOR: np.concatenate([graph["vectors"] for graph in graphs]),
            constants.N_ATOMS_BATCH_REAL: np.int32(len(types)),
            constants.N_ATOMS_BATCH_TOTAL: np.int32(len(types)),
        }
        return {name: tf.constant(array) for name, array in arrays.items()}


load = Grace
