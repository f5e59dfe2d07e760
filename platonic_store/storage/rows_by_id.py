"""Rows of a Lance table by their ids, as an index gives them, and the rows beside them.

An id is the number of a fragment, and the place in that.
"""

from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa

from platonic_store.storage.layout import key_names

if TYPE_CHECKING:
    from lance import LanceDataset

BESIDE = (24, 192, 1_536)  # rows on either side of an atom among which its structure's are sought


def rows_by_id(table: "LanceDataset", ids: np.ndarray, columns: list[str]) -> pa.Table:
    """Columns of some rows by their ids, in their order."""
    if not len(ids):
        return table.schema.empty_table().select(columns)
    order = np.argsort(ids)
    places = _places(table, ids[order])
    if places is not None:  # half the time of a filter
        read = table.take(places.tolist(), columns=columns)
    else:
        names = ", ".join(map(str, ids[order]))
        read = table.to_table(columns=columns, filter=f"_rowid IN ({names})", with_row_id=True)
        read = read.take(pa.array(np.argsort(np.asarray(read["_rowid"])))).drop_columns("_rowid")
    return read.take(pa.array(np.argsort(order)))


def atoms_by_id(table: "LanceDataset", ids: np.ndarray) -> pa.Table | None:
    """The keys of some atoms, and the `multiplicity` of each: how many sites are equivalent to it.

    A structure's rows are written together: what lies around an atom is the rest of its structure.

    Returns: None where that is not seen to its ends, and where rows were deleted.
    """
    places = _places(table, ids)
    if places is None or not len(ids):
        return None
    end = table.count_rows()
    for beside in BESIDE:
        starts, ends = np.maximum(places - beside, 0), np.minimum(places + beside + 1, end)
        wanted = np.unique(np.concatenate([*map(np.arange, starts, ends)]))
        read = table.take(wanted.tolist(), columns=key_names("atom"))
        owners = np.asarray(read["structure_id"].combine_chunks().dictionary_encode().indices)
        orbits = np.asarray(read["orbit"])
        own = np.searchsorted(wanted, places)
        first, last = np.searchsorted(wanted, starts), np.searchsorted(wanted, ends - 1)
        is_cut = (owners[first] == owners[own]) & (starts > 0)
        is_cut |= (owners[last] == owners[own]) & (ends < end)
        if not is_cut.any():
            equivalent = [
                (owners[a : b + 1] == owners[row]) & (orbits[a : b + 1] == orbits[row])
                for a, b, row in zip(first, last, own, strict=True)
            ]
            counts = pa.array([one.sum() for one in equivalent], pa.int64())
            return read.take(pa.array(own)).append_column("multiplicity", counts)
    return None


def _places(table: "LanceDataset", ids: np.ndarray) -> np.ndarray | None:
    """Where the rows of some ids lie in a table's order; None if rows of it were deleted."""
    if table not in _starts or _starts[table].version != table.version:
        _starts[table] = _fragment_starts(table)
    _, numbers, starts = _starts[table]
    if starts is None:
        return None
    fragment = np.searchsorted(numbers, (ids >> np.uint64(32)).astype(np.int64))
    places: np.ndarray = starts[fragment] + (ids & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return places


class _Starts(NamedTuple):
    """The numbers of a version's fragments, ascending, and where each begins in the table's order.

    starts: None if rows were deleted.
    """

    version: int
    numbers: np.ndarray
    starts: np.ndarray | None


_starts: "WeakKeyDictionary[LanceDataset, _Starts]" = WeakKeyDictionary()


def _fragment_starts(table: "LanceDataset") -> _Starts:
    fragments = table.get_fragments()
    numbers = np.array([one.fragment_id for one in fragments], dtype=np.int64)
    if any(one.num_deletions for one in fragments):
        return _Starts(table.version, numbers, None)
    sizes = np.array([one.physical_rows for one in fragments], dtype=np.int64)
    starts, order = np.cumsum(sizes) - sizes, np.argsort(numbers)
    return _Starts(table.version, numbers[order], starts[order])
