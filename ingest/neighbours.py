"""Neighbours of many structures at once, on their device, by nvalchemi-toolkit-ops.

It is in no environment of ours: an adapter's `graphs` is used where somebody has installed it.
"""

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from ingest.families import Structure
from ingest.transfer import to_device

PACKAGE = "nvalchemi-toolkit-ops"
NAIVE = 512  # atoms of a structure up to which every pair is looked at
# Neighbours of an atom, where the package's own guess is too small; doubled if this is, too.
ROOM = 256


def installed() -> bool:
    """Whether the package is in this interpreter."""
    return importlib.util.find_spec("nvalchemiops") is not None


def neighbours(
    structures: Sequence[Structure], cutoff: float, device: str
) -> list[tuple[Any, Any]]:
    """Of each structure its edges (2, n) int64 and their vectors (n, 3) float32, Å, as tensors.

    A vector is from an edge's first atom to its second. Sorted by the first, by the lattice vectors
    between them and by the second: the package's order is another each time. Raises what it raises.
    """
    import torch
    from ase.geometry import complete_cell

    sizes = np.array([len(one.numbers) for one in structures])
    first = np.cumsum(sizes) - sizes
    periodic = np.stack([one.pbc for one in structures])
    complete = [
        one.cell if one.pbc.all() else complete_cell(one.cell * one.pbc[:, None])
        for one in structures
    ]
    positions = to_device(np.concatenate([one.positions for one in structures]), device)
    cells = to_device(np.stack(complete), device)
    edges, images = _pairs(positions, cells, periodic, sizes, cutoff, device)
    order = torch.arange(len(images), device=device)
    for column in (edges[1], *images.unbind(1), edges[0]):
        order = order[torch.sort(column[order], stable=True).indices]
    edges, images = edges[:, order], images[order]
    of = to_device(np.repeat(np.arange(len(sizes)), sizes), device)[edges[0]]
    shifts = torch.einsum("ei,eij->ej", images.to(cells), cells[of])
    vectors = (positions[edges[1]] - positions[edges[0]] + shifts).float()
    edges = edges - to_device(first, device)[of]
    counts = torch.bincount(of, minlength=len(sizes)).tolist()
    return list(zip(edges.split(counts, dim=1), vectors.split(counts), strict=True))


def _pairs(
    positions: Any, cells: Any, periodic: np.ndarray, sizes: np.ndarray, cutoff: float, device: str
) -> tuple[Any, Any]:
    """Edges (2, n) int64 among the atoms of all, and images (n, 3) int32 of each second atom."""
    from nvalchemiops.neighbors.neighbor_utils import NeighborOverflowError
    from nvalchemiops.torch.neighbors import neighbor_list

    pointer = to_device(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32), device)
    room = None
    while True:
        try:
            pairs, _, images = neighbor_list(
                positions,
                cutoff,
                cell=cells,
                pbc=to_device(periodic, device),
                batch_ptr=pointer,
                method="batch_naive" if sizes.max() <= NAIVE else "batch_cell_list",
                return_neighbor_list=True,
                max_neighbors=room,
            )
        except NeighborOverflowError:
            room = 2 * room if room else ROOM
        else:
            return pairs.long(), images
