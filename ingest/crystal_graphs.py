"""Networks that read a pymatgen crystal (CHGNet, MatRIS): its graph, and their layers."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from ase.cell import Cell
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure as Crystal

from ingest.families import Structure


class _LastLayerReached(Exception):
    """Ends a forward pass after the last requested layer."""


def build_graph(structure: Structure, convert: Callable[[Crystal], Any]) -> dict[str, Any]:
    """The package's own graph, its tensors as arrays.

    A direction without periodicity needs a lattice vector only for fractional coordinates. The
    packages refuse a structure with an atom that has no neighbour.
    """
    cell = Cell(structure.cell * structure.pbc[:, None]).complete()
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


def as_tensors(graph: Mapping[str, Any]) -> dict[str, Any]:
    """A graph of `build_graph`, with tensors again."""
    return {
        key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for key, value in graph.items()
    }


def run_layers(
    blocks: Sequence[torch.nn.Module],
    layers: Sequence[int],
    forward: Callable[[], dict[str, Any]],
    *,
    whole: bool,
) -> tuple[dict[int, torch.Tensor], dict[str, Any]]:
    """The atoms' features after some blocks of a forward pass, and what this returns.

    whole: to its end; else it stops after the last of these layers, and has nothing to say.
    """
    found: dict[int, torch.Tensor] = {}

    def keep(layer: int, _module: object, _inputs: object, output: Any) -> None:
        atoms = output[0] if isinstance(output, tuple) else output
        found[layer] = atoms.detach()
        if not whole and layer == max(layers):
            raise _LastLayerReached

    hooks = [blocks[i].register_forward_hook(partial(keep, i)) for i in layers]
    try:
        return found, forward()
    except _LastLayerReached:
        return found, {}
    finally:
        for hook in hooks:
            hook.remove()
