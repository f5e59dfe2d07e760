"""For structure_vectors.py: prototypes, elements and compositions of structures."""

from collections import defaultdict
from functools import lru_cache

import moyopy
import numpy as np
import pandas as pd
from ase.data import atomic_numbers
from pymatgen.core.composition import Composition

from platonic_store.storage.snapshot import Snapshot

SYMPREC = 0.1  # Å


def prototypes(store: Snapshot, rows: pd.DataFrame) -> np.ndarray:
    """The label of each structure: its column `aflow`, else formula type, space group, Wyckoff."""
    found = rows["aflow"].fillna("") if "aflow" in rows else _wyckoff(store).loc[rows.index]
    return found.to_numpy(str)


@lru_cache(maxsize=1)
def _wyckoff(store: Snapshot) -> pd.Series:
    found = {}
    for id, numbers, positions, cell in store.rows(
        "SELECT structure_id, numbers, positions, cell FROM crystals"
    ):
        basis = np.reshape(cell, (3, 3))
        inside = np.linalg.solve(basis.T, np.reshape(positions, (-1, 3)).T).T
        try:
            known = moyopy.MoyoDataset(
                moyopy.Cell(basis.tolist(), inside.tolist(), numbers), symprec=SYMPREC
            )
        except Exception:  # moyopy raises its own, which it does not export
            found[id] = id
            continue
        letters = defaultdict(list)
        for site, first in enumerate(known.orbits):
            if site == first:
                letters[numbers[site]].append(known.wyckoffs[site])
        kind = Composition.from_dict(pd.Series(numbers).value_counts().to_dict())
        sequence = sorted("".join(sorted(one)) for one in letters.values())
        found[id] = "_".join([kind.anonymized_formula, str(known.number), *sequence])
    return pd.Series(found)


def has_element(elements: pd.Series) -> np.ndarray:
    """(n, 119) bool."""
    has = np.zeros((len(elements), 119), dtype=bool)
    for row, symbols in enumerate(elements):
        has[row, [atomic_numbers[symbol] for symbol in symbols]] = True
    return has


def composition(ids: pd.Series, store: Snapshot) -> np.ndarray:
    """(n, 119) the share of each element."""
    known = dict(store.rows("SELECT structure_id, numbers FROM crystals"))
    counts = np.array([np.bincount(known[id], minlength=119) for id in ids], dtype=float)
    shares: np.ndarray = counts / counts.sum(axis=1, keepdims=True)
    return shares
