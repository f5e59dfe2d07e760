"""SOAP blind to the elements, a control: the geometry of an atom's surroundings, nothing learnt."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

# The package has no other way to be told how many threads a worker has.
os.environ.setdefault("RAYON_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "0"))

import numpy as np
from featomic import SoapPowerSpectrum
from featomic.systems import SystemBase
from metatensor import Labels

from ingest.families import Structure, versions


def build_graph(structure: Structure, cutoff: float) -> dict[str, np.ndarray]:
    """What the package finds the neighbours from: a cell periodic in all directions, or in none.

    Along a direction without periodicity it is so long that no atom sees an image.
    """
    positions, cell = structure.positions, structure.cell[structure.pbc]
    if 0 < len(cell) < 3:
        normals = np.linalg.svd(cell)[2][len(cell) :]
        lengths = np.ptp(positions @ normals.T, axis=0) + 2 * cutoff
        cell = np.concatenate([cell, normals * lengths[:, None]])
    return {"positions": positions, "cell": cell if len(cell) else np.zeros((3, 3))}


class Geometry(SystemBase):  # type: ignore[misc]  # the package has no types
    """A structure as the package reads it, all of its atoms of one kind."""

    def __init__(self, graph: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self._graph = graph

    def size(self) -> int:
        """The number of atoms."""
        return len(self._graph["positions"])

    def types(self) -> np.ndarray:
        """The same for every atom."""
        return np.zeros(self.size(), np.int32)

    def positions(self) -> np.ndarray:
        """Å."""
        return self._graph["positions"]

    def cell(self) -> np.ndarray:
        """Å; all zero where there is none."""
        return self._graph["cell"]


class Soap:
    """The SOAP power spectrum with the card's parameters."""

    def __init__(self, card: Mapping[str, Any], _device: str) -> None:
        if card["seed"] is not None:
            raise ValueError(f"{card['name']} has no weights to replace by random ones")
        parameters = card["architecture"]
        self.checkpoint_sha256 = hashlib.sha256(
            json.dumps(parameters, sort_keys=True).encode()
        ).hexdigest()
        self.versions = versions("featomic", "metatensor-core", "numpy")
        self.device = "cpu"
        self._power_spectrum = SoapPowerSpectrum(**parameters)
        self.cutoff = float(self._power_spectrum.cutoffs[0])
        self.elements = frozenset(card["elements"])
        # p(l, n, m) = p(l, m, n): one of the two, √2 times, has the scalar product of both.
        radial = range(parameters["basis"]["radial"]["max_radial"] + 1)
        angular = range(parameters["basis"]["max_angular"] + 1)
        triples = np.array([(i, n, m) for i in angular for n in radial for m in radial if n <= m])
        self._properties = Labels(["l", "n_1", "n_2"], triples)
        self.layers = {0: len(triples)}
        self.graph = partial(build_graph, cutoff=self.cutoff)

    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """All structures in one call of the package."""
        systems = [Geometry(graph) for graph in graphs]
        spectrum = self._power_spectrum.compute(systems, selected_properties=self._properties)
        block = spectrum.block(0)
        _, n, m = block.properties.values.T
        rows = np.asarray(block.values) * np.where(n == m, 1.0, np.sqrt(2.0))
        return {layer: rows.astype(np.float32) for layer in layers}


load = Soap
