"""Structures of a store as pymatgen's."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from platonic_store.storage.snapshot import Snapshot
from platonic_store.storage.sqltext import literals

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure


def crystals(snapshot: Snapshot, ids: Iterable[str]) -> "dict[str, Structure]":
    """Some structures by id; those without a cell are left out."""
    from pymatgen.core.structure import Structure

    # Literals, because DuckDB would read all rows to join them with a parameter.
    rows = snapshot.rows(
        "SELECT structure_id, numbers, positions, cell FROM crystals "
        f"WHERE structure_id IN ({literals(dict.fromkeys(ids)) or 'NULL'})"
    )
    return {
        id: Structure(
            np.reshape(cell, (3, 3)),
            numbers,
            np.reshape(positions, (-1, 3)),
            coords_are_cartesian=True,
        )
        for id, numbers, positions, cell in rows
        if np.linalg.det(np.reshape(cell, (3, 3)))
    }
