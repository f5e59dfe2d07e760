"""The points of a map in the one order that all models share, so that maps link by row."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from platonic_store.storage.layout import Level
from platonic_store.storage.snapshot import Snapshot

R = TypeVar("R")
_kept: WeakKeyDictionary[Snapshot, dict[Any, Any]] = WeakKeyDictionary()


def cached(function: Callable[..., R]) -> Callable[..., R]:
    """Compute once for each snapshot and arguments, and forget with the snapshot."""

    @functools.wraps(function)
    def answer(snapshot: Snapshot, *arguments: Any) -> R:
        known = _kept.setdefault(snapshot, {})
        key = function.__module__, function.__name__, arguments
        if key not in known:
            known[key] = function(snapshot, *arguments)
        found: R = known[key]
        return found

    return answer


class Structures(NamedTuple):
    """All structures by id: n of each."""

    ids: pa.Array
    formulas: list[str]


class Atoms(NamedTuple):
    """The distinct atoms, the first of each set of equivalent sites, by structure and site.

    structure: (n,) uint32, its row among `Structures`; site: (n,) uint16; number: (n,) uint8.
    """

    structure: np.ndarray
    site: np.ndarray
    number: np.ndarray


@cached
def structures(snapshot: Snapshot) -> Structures:
    found = snapshot.execute(
        "SELECT id, formula FROM catalog.main.structures ORDER BY id"
    ).to_arrow_table()
    return Structures(found["id"].combine_chunks(), found["formula"].to_pylist())


@cached
def atoms(snapshot: Snapshot) -> Atoms:
    found = snapshot.execute(
        "SELECT structure_id, numbers, orbits FROM crystals ORDER BY structure_id"
    ).to_arrow_table()
    of_row = of_structures(snapshot, found["structure_id"])
    orbits = found["orbits"].combine_chunks()
    counts = np.asarray(pc.list_value_length(orbits))
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    site = np.arange(counts.sum()) - starts
    is_first = site == np.asarray(orbits.flatten())
    number = np.asarray(found["numbers"].combine_chunks().flatten())
    return Atoms(
        np.repeat(of_row, counts)[is_first].astype(np.uint32),
        site[is_first].astype(np.uint16),
        number[is_first].astype(np.uint8),
    )


def count(snapshot: Snapshot, level: Level) -> int:
    """How many rows a map of that level has."""
    if level == "structure":
        return len(structures(snapshot).ids)
    return len(atoms(snapshot).site)


def of_structures(snapshot: Snapshot, ids: Any) -> np.ndarray:
    """(m,) int64: the rows of some ids, −1 for one that is not there."""
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    known = structures(snapshot).ids
    rows = pc.index_in(pa.array(ids, pa.string()), known)
    return np.asarray(rows.fill_null(-1)).astype(np.int64)


def of_atoms(snapshot: Snapshot, ids: Any, sites: np.ndarray) -> np.ndarray:
    """(m,) int64: the rows of some atoms, −1 for one that is not the first of its orbit."""
    order = atoms(snapshot)
    keys = order.structure.astype(np.int64) << 16 | order.site
    wanted = of_structures(snapshot, ids) << 16 | np.asarray(sites, dtype=np.int64)
    if not len(keys):
        return np.full(len(wanted), -1)
    places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[places] == wanted, places, -1)


def rows_of(snapshot: Snapshot, level: Level, table: pa.Table) -> np.ndarray:
    """(m,) int64: the rows of a table that has structure_id (and site_index)."""
    if level == "structure":
        return of_structures(snapshot, table["structure_id"])
    return of_atoms(snapshot, table["structure_id"], np.asarray(table["site_index"]))
