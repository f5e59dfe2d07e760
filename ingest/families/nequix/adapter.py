"""Nequix: the invariant scalars that leave each convolution's gate, by the package's torch part."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.geometry import complete_cell
from e3nn import o3
from nequix.data import atomic_numbers_to_indices, preprocess_graph
from nequix.torch_impl.model import (
    NequixTorch,
    bessel_basis,
    load_model,
    polynomial_cutoff,
)

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
from ingest.neighbours import neighbours
from ingest.transfer import to_host


def build_graph(
    structure: Structure, indices: Mapping[int, int], cutoff: float
) -> dict[str, np.ndarray]:
    """The package's own neighbours, and the vectors to them."""
    atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
    graph = preprocess_graph(atoms, indices, cutoff, False)
    shifts = graph["shifts"] @ complete_cell(structure.cell)
    vectors = (
        structure.positions[graph["senders"]] - structure.positions[graph["receivers"]] + shifts
    )
    return {
        "species": graph["species"].astype(np.int64),
        "senders": graph["senders"].astype(np.int64),
        "receivers": graph["receivers"].astype(np.int64),
        "vectors": vectors.astype(np.float32),
    }


def trained(path: Path) -> tuple[NequixTorch, dict[str, Any]]:
    """The network of a file, and its configuration; what is published for jax is converted."""
    network: tuple[NequixTorch, dict[str, Any]]
    if path.suffix != ".nqx":
        network = load_model(path)
        return network
    from nequix.model import load_model as load_published
    from nequix.torch_impl.utils import convert_model_jax_to_torch

    network = convert_model_jax_to_torch(*load_published(path), use_kernel=False)
    return network


def untrained(card: Mapping[str, Any]) -> tuple[NequixTorch, dict[str, Any]]:
    """The network of a card with random weights, and its configuration."""
    numbers = sorted(card["elements"])
    torch.manual_seed(card["seed"])
    config = card["architecture"] | {
        "atomic_numbers": numbers,
        "atom_energies": {str(number): 0.0 for number in numbers},
    }
    return NequixTorch(n_species=len(numbers), **card["architecture"]), config


class Nequix:
    """A Nequix checkpoint, or its architecture with random weights."""

    def __init__(self, card: Mapping[str, Any], device: str) -> None:
        self.versions = versions("torch", "nequix", "e3nn", "matscipy", "ase")
        self.device = torch_device(device)
        if card["seed"] is None:
            self.checkpoint_sha256 = verified(card["checkpoint"], card)
            network, self.config = trained(Path(card["checkpoint"]))
        else:
            network, self.config = untrained(card)
            self.checkpoint_sha256 = weights_sha256(dict(network.named_parameters()))
        self.network = network.to(self.device).eval().requires_grad_(False)
        self.cutoff = float(network.cutoff)
        self.elements = frozenset(self.config["atomic_numbers"])
        self.layers = {
            layer: convolution.output_irreps.count("0e")
            for layer, convolution in enumerate(network.layers)
        }
        indices = atomic_numbers_to_indices(self.config["atomic_numbers"])
        self.graph = partial(build_graph, indices=indices, cutoff=self.cutoff)

    def graphs(self, structures: Sequence[Structure]) -> list[dict[str, Any]]:
        """`graph` of many at once, on the device."""
        species = self.graph.keywords["indices"]
        found = neighbours(structures, self.cutoff, self.device)
        return [
            {
                "species": np.array([species[number] for number in one.numbers.tolist()]),
                "senders": senders,
                "receivers": receivers,
                "vectors": vectors,
            }
            for one, ((receivers, senders), vectors) in zip(structures, found, strict=True)
        ]

    @torch.inference_mode()
    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Runs the convolutions in order, and stops after the last requested layer."""
        return {
            layer: self._scalars(layer, features)
            for layer, features in self._run(self._batch(graphs), max(layers))
            if layer in layers
        }

    def predict(
        self, graphs: Sequence[Any], layers: Sequence[int], forces: bool
    ) -> tuple[dict[int, np.ndarray], Outputs]:
        """Runs all convolutions and the package's own readout."""
        network = self.network
        species, senders, receivers, vectors = tensors = self._batch(graphs)
        vectors.requires_grad_(forces)
        found = {}
        with torch.set_grad_enabled(forces):
            for layer, features in self._run(tensors, max(self.layers)):
                if layer in layers:
                    found[layer] = self._scalars(layer, features.detach())
            sites = network.readout(features)[:, 0] * network.scale + network.shift
            atoms = sites + network.atom_energies[species]
        sizes = [len(graph["species"]) for graph in graphs]
        # A vector is from its receiver to its sender.
        return found, outputs_of_edges(atoms, sizes, vectors, receivers, senders, forces=forces)

    def _scalars(self, layer: int, features: torch.Tensor) -> np.ndarray:
        """The gate puts 0e first."""
        return to_host(features[:, : self.layers[layer]])

    def _run(
        self, tensors: Sequence[torch.Tensor], last: int
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """The convolutions up to the last wanted, each with the features that leave it."""
        network, (species, senders, receivers, vectors) = self.network, tensors
        features = torch.nn.functional.one_hot(species, network.n_species).to(vectors.dtype)
        lengths = torch.linalg.norm(vectors, dim=-1)
        radial = bessel_basis(lengths, network.radial_basis_size, network.cutoff)
        cutoff = polynomial_cutoff(lengths, network.cutoff, network.radial_polynomial_p)
        radial = radial * cutoff[:, None]
        harmonics = o3.spherical_harmonics(
            o3.Irreps.spherical_harmonics(network.lmax),
            vectors,
            normalize=True,
            normalization="component",
        )
        for layer, convolution in enumerate(network.layers[: last + 1]):
            features = convolution(features, species, harmonics, radial, senders, receivers)
            yield layer, features

    def _batch(self, graphs: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        """One disjoint graph of all: species, senders, receivers, and the vectors between them."""
        points_into = {"senders": "species", "receivers": "species"}
        return tuple(disjoint(graphs, points_into, self.device).values())


load = Nequix
