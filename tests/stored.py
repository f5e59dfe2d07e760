"""The crystals of a store, as ASE has them."""

import numpy as np
from ase import Atoms

from platonic_store.store import Store


def crystals_of(store: Store, rest: str) -> dict[str, Atoms]:
    """Some crystals by their ids. rest: of the SQL, after `FROM crystals`."""
    found = store.sql(f"SELECT structure_id, numbers, positions, cell, pbc FROM crystals {rest}")
    return {
        row.structure_id: Atoms(
            row.numbers,
            np.reshape(row.positions, (-1, 3)),
            cell=np.reshape(row.cell, (3, 3)),
            pbc=row.pbc,
        )
        for row in found.itertuples()
    }


def crystal_of(store: Store, id_: str) -> Atoms:
    """One crystal."""
    return crystals_of(store, f"WHERE structure_id = '{id_}'")[id_]
