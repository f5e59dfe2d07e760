"""The rows of a vector table that stand for themselves, in memory, of tables of any size.

Equivalent sites come once, numbers stay in the precision in which they are stored, and ids are
Arrow's: Python's would take more than the vectors.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from platonic_store.storage.snapshot import Snapshot, VectorTable
from platonic_store.storage.vectors import WHOLE_BYTES


class DistinctRows(NamedTuple):
    """Rows in the order of their table.

    ids: the structures, each once. structure: (n,) int32, whose row each is, by its place in `ids`.
    site: (n,) int32, or None of structures. vectors: (n, D), in half precision where a large table
    is. hubs: (n,) float32, or None.
    """

    ids: pa.Array
    structure: np.ndarray
    site: np.ndarray | None
    vectors: np.ndarray
    hubs: np.ndarray | None

    def take(self, rows: np.ndarray) -> "DistinctRows":
        """Some of the rows. rows: (m,) integers."""
        site, hubs = (None if one is None else one[rows] for one in (self.site, self.hubs))
        return DistinctRows(self.ids, self.structure[rows], site, self.vectors[rows], hubs)

    def keys(self, rows: np.ndarray | slice = slice(None)) -> pa.Table:
        """structure_id and, of atoms, site_index of some rows."""
        columns = {"structure_id": self.ids.take(pa.array(self.structure[rows]))}
        if self.site is not None:
            columns["site_index"] = pa.array(self.site[rows])
        return pa.table(columns)

    def order(self) -> np.ndarray:
        """(n,) the rows sorted by their keys."""
        names = [pc.rank(self.ids).to_numpy()[self.structure]]
        return np.lexsort(names if self.site is None else [self.site, *names])


def distinct_rows(snapshot: Snapshot, table: VectorTable) -> DistinctRows:
    """The distinct rows of a table: from memory if it is small, else read without the others."""
    if table.nbytes <= WHOLE_BYTES:
        parts, dtype = iter([snapshot.points(table)]), np.dtype(np.float32)
    else:
        parts, dtype = snapshot.stream(table), snapshot.dtype(table)
    vectors = np.empty((table.rows, table.dim), dtype)  # what stays empty takes no memory
    count, keys, hubs = 0, [], []
    for points in parts:
        mask = points.is_distinct
        some = points.vectors if mask.all() else points.vectors[mask]
        vectors[count : count + len(some)] = some
        count += len(some)
        keys.append(points.keys.filter(mask))
        if points.hubs is not None:
            hubs.append(points.hubs[mask])
    whole = pa.concat_tables(keys)
    owner = whole["structure_id"].dictionary_encode().combine_chunks()
    is_atoms = "site_index" in whole.column_names
    return DistinctRows(
        owner.dictionary,
        np.asarray(owner.indices),
        np.asarray(whole["site_index"]) if is_atoms else None,
        vectors[:count],
        np.concatenate(hubs) if hubs else None,
    )
