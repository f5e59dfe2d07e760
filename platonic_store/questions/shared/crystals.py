"""Structures as pymatgen's, and which of them its StructureMatcher takes for the same."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from platonic_store import progress
from platonic_store.storage.snapshot import Snapshot
from platonic_store.storage.sqltext import literals
from platonic_store.storage.watch import check

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure


def crystals(snapshot: Snapshot, ids: Iterable[str]) -> "dict[str, Structure]":
    """Some structures by id; those without a cell are left out."""
    # Literals, because DuckDB would read all rows to join them with a parameter.
    rows = snapshot.rows(
        "SELECT structure_id, numbers, positions, cell FROM crystals "
        f"WHERE structure_id IN ({literals(dict.fromkeys(ids)) or 'NULL'})"
    )
    return {
        id: as_pymatgen(numbers, positions, cell)
        for id, numbers, positions, cell in rows
        if np.linalg.det(np.reshape(cell, (3, 3)))
    }


def as_pymatgen(numbers: Any, positions: np.ndarray, cell: np.ndarray) -> "Structure":
    """A periodic crystal. positions: 3N, Cartesian Å; cell: 9, Å."""
    from pymatgen.core.structure import Structure

    places = np.reshape(positions, (-1, 3))
    return Structure(np.reshape(cell, (3, 3)), numbers, places, coords_are_cartesian=True)


def same(pairs: "Iterable[tuple[Structure | None, Structure | None]]", count: int) -> np.ndarray:
    """(count,) bool: which pairs StructureMatcher, with its own tolerances, takes for the same.

    None, of what has no cell, is never the same.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher, found = StructureMatcher(), np.zeros(count, dtype=bool)
    with progress.bar("StructureMatcher", count, "pairs") as advance:
        for row, (one, other) in enumerate(pairs):
            check()
            found[row] = one is not None and other is not None and matcher.fit(one, other)
            advance(1)
    return found
