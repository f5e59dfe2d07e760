"""CHGNet: the atom features after each atom convolution, the last as the energy head reads it."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import chgnet
import numpy as np
import torch
from ase.cell import Cell
from chgnet.graph import CrystalGraph, CrystalGraphConverter
from chgnet.model import CHGNet
from pymatgen.core import Lattice
from pymatgen.core import Structure as Crystal

from ingest.families import Structure, torch_device, verified, versions


class _Enough(Exception):
    """Ends a forward when the last layer wanted is there."""


def build_graph(structure: Structure, convert: CrystalGraphConverter) -> dict[str, Any]:
    """The package's own graph, its tensors as arrays.

    A direction without periodicity needs a lattice vector only for fractional coordinates. The
    package refuses a structure with an atom that has no neighbour.
    """
    cell = Cell(structure.cell).complete()
    x, y, z = structure.pbc.tolist()
    crystal = Crystal(
        Lattice(cell, pbc=(x, y, z)),
        structure.numbers.tolist(),
        structure.positions,
        coords_are_cartesian=True,
    )
    return {
        key: value.detach().numpy() if isinstance(value, torch.Tensor) else value
        for key, value in convert(crystal).to_dict().items()
    }


class Chgnet:
    """A CHGNet checkpoint from the package's own wheel."""

    def __init__(self, card: Mapping[str, Any], device: str) -> None:
        self.versions = versions("torch", "chgnet", "pymatgen", "ase")
        folder = Path(chgnet.__file__).parent / "pretrained" / card["loader"]
        self.checkpoint_sha256 = verified(next(folder.glob("*.pth.tar")), card)
        self.device = torch_device(device)
        self._model = CHGNet.load(
            model_name=card["loader"], use_device=self.device, verbose=False
        ).eval()
        converter = self._model.graph_converter
        self.cutoff = float(converter.atom_graph_cutoff)
        # The checkpoint has a row for every element up to Pu, trained or not: the card knows.
        self.elements = frozenset(card["elements"])
        self._layers = list(self._model.atom_conv_layers)
        if self._model.readout_norm is not None:
            self._layers[-1] = self._model.readout_norm
        self.layers = dict.fromkeys(range(len(self._layers)), self._model.atom_fea_dim)
        self.graph = partial(build_graph, convert=converter)

    @torch.inference_mode()
    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """The package's own forward, watched, and stopped after the last layer wanted."""
        found: dict[int, np.ndarray] = {}

        def keep(layer: int, _module: object, _inputs: object, output: torch.Tensor) -> None:
            found[layer] = output.cpu().numpy().copy()
            if layer == max(layers):
                raise _Enough

        hooks = [self._layers[i].register_forward_hook(partial(keep, i)) for i in layers]
        try:
            self._model([self._crystal_graph(graph) for graph in graphs], task="e")
        except _Enough:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def _crystal_graph(self, graph: Mapping[str, Any]) -> CrystalGraph:
        tensors: dict[str, Any] = {
            key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            for key, value in graph.items()
        }
        return CrystalGraph(**tensors).to(self.device)


load = Chgnet
