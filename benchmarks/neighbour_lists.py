"""Is a neighbour list on the device equal to matscipy's? `neighbour_lists.py [SOURCE]`

nvalchemi-toolkit-ops (install it beside platonic-store; it is no dependency) against matscipy, with
which MACE, SevenNet and Nequix build their graphs, edge for edge: the same pairs with the same
vectors, of the structures of a source and of made ones that are hard (oblique cells, cells smaller
than the cutoff, atoms outside the cell, slabs, a wire, a molecule). Edges within 1e-6 Å of the
cutoff are left out of the comparison and counted: there, two correct lists may differ.
"""

import argparse
import os
import sys
import time
from itertools import islice
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # not the `ingest.py` beside this

import numpy as np
import torch
from ase.cell import Cell
from matscipy.neighbours import neighbour_list
from nvalchemiops.neighbors.neighbor_utils import NeighborOverflowError
from nvalchemiops.torch.neighbors import neighbor_list

from ingest.families import Structure
from ingest.worker import structures_of
from platonic_store.structures import read

NEAR = 1e-6  # Å
METHODS = ("batch_naive", "batch_cell_list")


def hard() -> list[Structure]:
    """Made crystals, slabs, a wire and a molecule. Deterministic."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(60):
        atoms = int(rng.integers(1, 9))
        lengths, shear = rng.uniform(2.2, 12, 3), np.tril(rng.uniform(-1.5, 1.5, (3, 3)), -1)
        cell = (np.eye(3) + shear) @ np.diag(lengths)
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        pbc = [(True,) * 3, (True, True, False), (False, False, True), (False,) * 3][number % 4]
        inside = rng.uniform(-1.5, 2.5, (atoms, 3))  # outside, too
        found.append(
            Structure(f"hard {number}", np.full(atoms, 14), inside @ cell @ turn, cell @ turn,
                      np.array(pbc))
        )  # fmt: skip
    return found


def by_matscipy(one: Structure, cutoff: float) -> np.ndarray:
    """(edges, 5): start, end, and the vector between them, Å."""
    cell = Cell(one.cell * one.pbc[:, None]).complete().array
    start, end, vectors = neighbour_list(
        "ijD", positions=one.positions, cell=cell, pbc=one.pbc, cutoff=cutoff
    )
    return np.column_stack([start, end, vectors])


def by_nvalchemi(
    structures: list[Structure], cutoff: float, method: str, device: str, dtype: torch.dtype
) -> list[np.ndarray]:
    """The same of each, by one call for all."""
    sizes = [len(one.numbers) for one in structures]
    pointer = torch.tensor([0, *np.cumsum(sizes)], dtype=torch.int32, device=device)
    cells = [Cell(one.cell * one.pbc[:, None]).complete().array for one in structures]
    positions = np.concatenate([one.positions for one in structures])
    most = None  # neighbours of an atom: its own guess, by the density, can be too small
    while True:
        try:
            pairs, _, shifts = neighbor_list(
                torch.tensor(positions, dtype=dtype, device=device),
                cutoff,
                cell=torch.tensor(np.array(cells), dtype=dtype, device=device),
                pbc=torch.tensor(np.array([one.pbc for one in structures]), device=device),
                batch_ptr=pointer,
                method=method,
                return_neighbor_list=True,
                max_neighbors=most,
            )
            break
        except NeighborOverflowError:
            most = 2 * most if most else 256
    (start, end), shifts = pairs.cpu().numpy(), shifts.cpu().numpy()
    of = np.repeat(np.arange(len(sizes)), sizes)[start]
    vectors = (
        positions[end] - positions[start] + np.einsum("ei,eij->ej", shifts, np.array(cells)[of])
    )
    first = np.cumsum([0, *sizes[:-1]])[of]
    rows = np.column_stack([start - first, end - first, vectors])
    return [rows[of == place] for place in range(len(sizes))]


def differences(ours: np.ndarray, theirs: np.ndarray, cutoff: float) -> tuple[int, int]:
    """Edges that only one of the two has, and how many were too near to the cutoff to be asked."""
    keys, near = [], 0
    for rows in (ours, theirs):
        is_near = np.abs(np.linalg.norm(rows[:, 2:], axis=1) - cutoff) < NEAR
        near += int(is_near.sum())
        kept = rows[~is_near]
        places = np.rint(kept[:, 2:] * 1e4).astype(np.int64)
        keys.append([tuple(row) for row in np.column_stack([kept[:, :2].astype(np.int64), places])])
    if sorted(keys[0]) == sorted(keys[1]):
        return 0, near
    # Rounding may separate equal vectors: only what has no partner within 2e-4 Å differs.
    left = 0
    for one, other in ((ours, theirs), (theirs, ours)):
        for row in one:
            if abs(np.linalg.norm(row[2:]) - cutoff) < NEAR:
                continue
            same = (other[:, :2] == row[:2]).all(1)
            gaps = np.linalg.norm(other[same, 2:] - row[2:], axis=1)
            left += int(not len(gaps) or gaps.min() > 2e-4)
    return left + abs(len(keys[0]) - len(keys[1])), near


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", default="builtin:aflow-prototypes")
    parser.add_argument("--structures", type=int, default=300)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cutoff", type=float, nargs="+", default=[5.0, 6.0])
    asked = parser.parse_args()
    (batch,) = islice(read(asked.source, batch_size=asked.structures), 1)
    sets = {"source": structures_of(batch.structures), "hard": hard()}
    name = torch.cuda.get_device_name(asked.device) if "cuda" in asked.device else asked.device
    print("| structures | cutoff, Å | method | precision | edges | differ | near the cutoff | "
          f"s, matscipy | s, nvalchemi on {name} |\n|{'---|' * 9}")  # fmt: skip
    for title, structures in sets.items():
        for cutoff in asked.cutoff:
            begun = time.perf_counter()
            ours = [by_matscipy(one, cutoff) for one in structures]
            spent = time.perf_counter() - begun
            for method in METHODS:
                for dtype in (torch.float64, torch.float32):
                    by_nvalchemi(structures, cutoff, method, asked.device, dtype)  # compiles
                    begun = time.perf_counter()
                    theirs = by_nvalchemi(structures, cutoff, method, asked.device, dtype)
                    seconds = time.perf_counter() - begun
                    both = [differences(a, b, cutoff) for a, b in zip(ours, theirs, strict=True)]
                    differ, near = np.sum(both, axis=0).tolist()
                    worst = [s.id for s, (n, _) in zip(structures, both, strict=True) if n][:3]
                    print(f"| {len(structures)} of {title} | {cutoff:g} | {method} | "
                          f"{str(dtype).split('.')[1]} | {sum(map(len, ours)):,} | {differ} "
                          f"{worst or ''} | {near} | {spent:.2f} | {seconds:.2f} |",
                          flush=True)  # fmt: skip
    print(f"\nload average while measuring: {os.getloadavg()[1]:.1f}")


if __name__ == "__main__":
    main()
