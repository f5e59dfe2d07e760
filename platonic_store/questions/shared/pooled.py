"""One vector for each structure, pooled from its atoms when a question is asked."""

from collections.abc import Iterator
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import pyarrow as pa

from platonic_store.geometry.neighbours import nearest_to_one, row_lengths
from platonic_store.geometry.pooling import element_spread, pool
from platonic_store.questions.shared.inputs import QueryVector
from platonic_store.storage import lookup
from platonic_store.storage.layout import Points
from platonic_store.storage.snapshot import Snapshot, VectorTable
from platonic_store.storage.vectors import fits_cache

SPREAD_ATOMS = 100_000  # of a table that does not fit in memory, for its spread


class Pooled(NamedTuple):
    """Structures by one pooling.

    ids: (m,) in their order. vectors: (m, dim) float32. lengths: (m,). spread: see
    `geometry.pooling.element_spread`.
    """

    ids: np.ndarray
    vectors: np.ndarray
    lengths: np.ndarray
    spread: float


_known: WeakKeyDictionary[Points, dict[str, Pooled]] = WeakKeyDictionary()


def pooled(snapshot: Snapshot, table: VectorTable, pooling: str) -> Pooled:
    """All structures of a table of atoms; kept as long as its points are.

    A table that does not fit in memory is read in parts: memory is that of the answer (half a
    gigabyte for a million structures of 128 numbers) and a part.
    """
    if not fits_cache(table.nbytes):
        return _gathered(_whole_structures(snapshot.stream(table)), pooling)
    points = snapshot.points(table)
    known = _known.setdefault(points, {})
    if pooling not in known:
        known[pooling] = _gathered(iter([points]), pooling)
    return known[pooling]


def nearest_pooled(
    snapshot: Snapshot,
    table: VectorTable,
    query: QueryVector,
    pooling: str,
    k: int,
    where: str | None = None,
) -> pd.DataFrame:
    """The k structures nearest by the cosine of their pooled vectors, without the query's own.

    Returns: rank, structure_id, distance. Raises: InvalidQuery for the condition.
    """
    whole = pooled(snapshot, table, pooling)
    mask = whole.ids != query.structure_id
    if where is not None:
        mask &= np.isin(
            whole.ids, lookup.matching(snapshot, where, "structure")["structure_id"].to_numpy(str)
        )
    rows, distance = nearest_to_one(query.vector, whole.vectors, whole.lengths, k, mask)
    rank = np.arange(1, len(rows) + 1)
    return pd.DataFrame({"rank": rank, "structure_id": whole.ids[rows], "distance": distance})


def _gathered(parts: Iterator[Points], pooling: str) -> Pooled:
    ids, vectors, atoms, numbers, count = [], [], [], [], 0
    for points in parts:
        named, owner = np.unique(points.column("structure_id").astype(str), return_inverse=True)
        number, orbit = points.column("atomic_number"), points.column("orbit")
        vectors.append(pool(pooling, points.vectors, owner, number, orbit))
        ids.append(named)
        if count < SPREAD_ATOMS:
            atoms.append(points.vectors)
            numbers.append(number)
            count += len(number)
    names, matrix = np.concatenate(ids), np.concatenate(vectors)
    order = np.argsort(names, kind="stable")
    spread = element_spread(np.concatenate(atoms), np.concatenate(numbers))
    return Pooled(names[order], matrix[order], row_lengths(matrix[order]), spread)


def _whole_structures(parts: Iterator[Points]) -> Iterator[Points]:
    """The same rows, cut between structures: those of one are written together."""
    rest: Points | None = None
    for part in parts:
        if rest is not None:
            keys = pa.concat_tables([rest.keys, part.keys]).combine_chunks()
            part = Points(keys, np.concatenate([rest.vectors, part.vectors]))
        ids = part.column("structure_id")
        cut = int(np.flatnonzero(ids == ids[-1])[0])
        rest = Points(part.keys.slice(cut), part.vectors[cut:])
        if cut:
            yield Points(part.keys.slice(0, cut), part.vectors[:cut])
    if rest is not None:
        yield rest
