"""The rows of a vector table that are nearest to a query."""

import numpy as np
import pandas as pd
import pyarrow as pa

from platonic_store.errors import InvalidQuery
from platonic_store.geometry.neighbours import nearest_to_one
from platonic_store.geometry.sets import nearest_sets
from platonic_store.questions.shared.atom_sets import atom_sets
from platonic_store.questions.shared.indexed import by_index, is_among, is_indexed, level_of
from platonic_store.questions.shared.inputs import AtomSet, QueryVector
from platonic_store.storage import lookup
from platonic_store.storage.layout import Level, Points, key_names
from platonic_store.storage.snapshot import ModelLayer, Snapshot, VectorTable
from platonic_store.storage.sqltext import literals
from platonic_store.storage.vectors import fits_cache


def nearest(
    snapshot: Snapshot,
    table: VectorTable,
    query: QueryVector,
    k: int,
    where: str | None = None,
    *,
    across: bool = False,
) -> pd.DataFrame:
    """The k rows nearest to a vector by cosine, without the query's own structure or atom.

    `across`: another model asks. Rows are then ordered by distance + hub / 2 where the space has
    hub scores (`geometry.hubs`).

    Exact up to a quarter of a gigabyte of vectors; beyond, by index: see `indexed`.
    Atoms come one for each set of symmetry-equivalent sites.

    Returns: rank, structure_id, distance, of atoms also site_index, atomic_number, orbit and, where
        the index knows it, multiplicity.
    Raises: InvalidQuery if the vector has another dimension, or for the condition.
    """
    if query.vector.shape != (table.dim,):
        raise InvalidQuery(
            f"the query has {query.vector.size} numbers, vectors of {table.name} have {table.dim}"
        )
    if is_indexed(snapshot, table):
        keys, distances = by_index(snapshot, table, query, k, where, across)
    else:
        points = snapshot.points(table)
        mask = _candidates(snapshot, table, points, query, where)
        indices, distances = nearest_to_one(
            query.vector, points.vectors, points.lengths, k, mask, points.hubs if across else None
        )
        keys = points.keys.take(indices)
    names = [*key_names(table.level), "multiplicity"]
    return _ranked(keys.select([one for one in names if one in keys.column_names]), distances)


def nearest_by_transport(
    snapshot: Snapshot,
    table: VectorTable,
    query: AtomSet,
    own: str | None,
    k: int,
    where: str | None = None,
) -> pd.DataFrame:
    """The k structures whose atoms are matched with the query's at the least cost, without `own`.

    Exact while the atoms' table fits the cache; beyond, among the structures nearest by their mean.

    Returns: rank, structure_id, distance.
    """
    condition = None
    if not fits_cache(table.nbytes):
        mean = QueryVector((query.mass @ query.vectors).astype(np.float32), own)
        side = ModelLayer(table.model, table.layer)
        pooled = lookup.vector_table(snapshot, side, "structure", table.space)
        found = nearest(snapshot, pooled, mean, max(50, 5 * k), where)
        condition = f"structure_id IN ({literals(found['structure_id']) or 'NULL'})"
    points = snapshot.points(table, condition)
    sets = atom_sets(points)
    mask = np.ones(len(sets.label), dtype=bool)
    if own is not None:
        mask &= ~points.is_of(own)[sets.label]
    if where is not None:
        mask &= rows_matching(snapshot, points, "structure", where)[sets.label]
    indices, distances = nearest_sets(*query, points.vectors, points.lengths, sets, k, mask)
    keys = points.keys.select(["structure_id"]).take(sets.label[indices])
    return _ranked(keys, distances)


def _ranked(keys: pa.Table, distances: np.ndarray) -> pd.DataFrame:
    rank = pa.array(range(1, len(keys) + 1), pa.int64())
    found = keys.add_column(0, "rank", rank).append_column("distance", pa.array(distances))
    frame: pd.DataFrame = found.to_pandas()
    return frame


def _candidates(
    snapshot: Snapshot, table: VectorTable, points: Points, query: QueryVector, where: str | None
) -> np.ndarray:
    """Which rows may answer: (n,) bool."""
    mask = points.is_distinct.copy()
    if query.structure_id is not None:
        same = points.is_of(query.structure_id)
        if table.level == "atom":
            same = same & (points.column("orbit") == query.site_index)
        mask &= ~same
    if where is not None:
        mask &= rows_matching(snapshot, points, table.level, where)
    return mask


def rows_matching(snapshot: Snapshot, points: Points, level: Level, where: str) -> np.ndarray:
    """(n,) bool: for which rows an SQL condition on `structure` (and `site`) holds.

    Raises: InvalidQuery.
    """
    meeting = lookup.matching(snapshot, where, level_of(snapshot, level, where))
    return is_among(points.keys, meeting)
