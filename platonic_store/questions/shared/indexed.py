"""The rows nearest to a query in a table that does not fit in memory: by its index.

A condition is asked of the rows that the index finds, nearest first, until enough meet it. Where
too few do, those that meet it are listed and searched, or the table is read: k answers come where
there are k.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from platonic_store.errors import InvalidQuery
from platonic_store.geometry.neighbours import nearest_to_one
from platonic_store.questions.shared.inputs import QueryVector
from platonic_store.storage import lookup
from platonic_store.storage.layout import HUB, Level
from platonic_store.storage.nearest_rows import Accept
from platonic_store.storage.snapshot import Snapshot, VectorTable
from platonic_store.storage.sqltext import literals
from platonic_store.storage.vectors import fits_cache

HUB_CANDIDATES = 500  # at least so many are ordered anew by their hub scores
SCANNED_BYTES = 1 << 28  # a scan of so many takes some 30 ms
HELD = 2_000_000  # structures in a store, of which those that meet a condition are kept in memory
CONDITIONS = 2  # of each snapshot, at most 100 MB each
RARE = 1e-3  # of structures: so few are listed at once
LISTED = 20_000  # structures that meet a condition; more are not listed: the table is read


def is_indexed(snapshot: Snapshot, table: VectorTable) -> bool:
    """Whether a table is searched by its index: it is large, and the index is good or needed."""
    if not fits_cache(table.nbytes):
        return True
    return table.nbytes > SCANNED_BYTES and snapshot.search(table).is_good


def by_index(
    snapshot: Snapshot,
    table: VectorTable,
    query: QueryVector,
    k: int,
    where: str | None,
    across: bool,
) -> tuple[pa.Table, np.ndarray]:
    """The k nearest rows' keys and distances; see `nearest.nearest`. Raises: InvalidQuery."""
    by_hubs = across and snapshot.has_hubs(table)
    among = max(HUB_CANDIDATES, 10 * k) if by_hubs else 0
    wanted = max(k, among)
    accept = Accept(partial(_is_other, table.level, query), all_but=1)  # itself
    meeting: frozenset[str] | None = None
    if where is not None:
        level = level_of(snapshot, table.level, where)
        if level == "structure" and snapshot.count <= HELD:
            meeting = structures_meeting(snapshot, where)
            is_one = partial(_is_of, meeting, accept.is_one)
            accept = Accept(is_one, meeting, len(meeting) / max(snapshot.count, 1))
        else:
            accept = Accept(partial(_accepted, snapshot, accept.is_one, where, level))
    found = None
    if accept.share >= RARE:
        is_row = query.structure_id is not None
        found = snapshot.nearest_indexed(table, query.vector, k, accept, among, is_row=is_row)
    if found is None and where is not None:
        found = _by_condition(snapshot, table, query, wanted, where, level, meeting)
    if found is None:
        found = _by_scan(snapshot, table, query, wanted, None)
    distances = np.asarray(found["_distance"], dtype=np.float64)
    if by_hubs:
        order = np.argsort(distances + np.asarray(found[HUB]) / 2, kind="stable")
        found, distances = found.take(order), distances[order]
    return found.slice(0, k), distances[:k]


def level_of(snapshot: Snapshot, level: Level, where: str) -> Level:
    """Of what a condition on rows of a level is asked: where it names no site, of structures, of
    which there are fewer.
    """
    if level == "structure" or where in _met(snapshot):
        return "structure"
    try:
        lookup.matching(snapshot, f"false AND ({where}\n)", "structure")
    except InvalidQuery:
        return "atom"
    return "structure"


_meeting: "WeakKeyDictionary[Snapshot, OrderedDict[str, frozenset[str]]]" = WeakKeyDictionary()
_lock = threading.Lock()


def structures_meeting(snapshot: Snapshot, where: str) -> frozenset[str]:
    """The ids of the structures that meet a condition; of the last few conditions they are kept.

    Raises: InvalidQuery.
    """
    known = _met(snapshot)
    found = known.get(where)
    if found is None:
        ids = lookup.matching(snapshot, where, "structure")["structure_id"]
        found = frozenset(ids.tolist())
        with _lock:
            known[where] = found
            while len(known) > CONDITIONS:
                known.popitem(last=False)
    return found


def _met(snapshot: Snapshot) -> "OrderedDict[str, frozenset[str]]":
    with _lock:
        return _meeting.setdefault(snapshot, OrderedDict())


def _is_of(
    structures: frozenset[str], is_one: Callable[[pa.Table], np.ndarray], rows: pa.Table
) -> np.ndarray:
    ids = rows["structure_id"].to_pylist()
    may: np.ndarray = is_one(rows) & np.array([id_ in structures for id_ in ids], dtype=bool)
    return may


def _is_other(level: Level, query: QueryVector, rows: pa.Table) -> np.ndarray:
    """Which rows are not the query itself, or equivalent to it."""
    if query.structure_id is None:
        return np.ones(len(rows), dtype=bool)
    other: np.ndarray = np.asarray(pc.not_equal(rows["structure_id"], query.structure_id))
    if level == "atom":
        other = other | (np.asarray(rows["orbit"]) != query.site_index)
    return other


def _accepted(
    snapshot: Snapshot,
    is_one: Callable[[pa.Table], np.ndarray],
    where: str,
    level: Level,
    rows: pa.Table,
) -> np.ndarray:
    """Which rows meet a condition, too, which is one on a level."""
    ids = rows["structure_id"].unique().to_pylist()
    may: np.ndarray = is_one(rows) & is_among(rows, lookup.matching(snapshot, where, level, ids))
    return may


def is_among(rows: pa.Table, meeting: pd.DataFrame) -> np.ndarray:
    """(n,) bool: which rows are of the structures, or are the sites, that meet a condition."""
    if "site_index" not in meeting:
        ids = pa.array(meeting["structure_id"], pa.string())
        return np.asarray(pc.is_in(rows["structure_id"], ids))
    names = ["structure_id", "site_index"]
    wanted = pd.MultiIndex.from_frame(meeting[names])
    is_one: np.ndarray = pd.MultiIndex.from_frame(rows.select(names).to_pandas()).isin(wanted)
    return is_one


def _by_condition(
    snapshot: Snapshot,
    table: VectorTable,
    query: QueryVector,
    k: int,
    where: str,
    level: Level,
    structures: frozenset[str] | None,
) -> pa.Table:
    if structures is None:
        meeting = lookup.matching(snapshot, where, level)
    else:
        meeting = pd.DataFrame({"structure_id": sorted(structures)})
    if level == "atom" or len(meeting) > LISTED:
        return _by_scan(snapshot, table, query, k, meeting)
    condition = f"structure_id IN ({literals(meeting['structure_id']) or 'NULL'})"
    # Of the query's own structure there may be one more row.
    found = snapshot.nearest_among(table, query.vector, k + 1, condition)
    return found.filter(pa.array(_is_other(table.level, query, found))).slice(0, k)


def _by_scan(
    snapshot: Snapshot,
    table: VectorTable,
    query: QueryVector,
    k: int,
    meeting: pd.DataFrame | None,
) -> pa.Table:
    """Exactly, by reading the whole table."""
    parts: list[pa.Table] = []
    for points in snapshot.stream(table):
        mask = points.is_distinct & _is_other(table.level, query, points.keys)
        if meeting is not None:
            mask &= is_among(points.keys, meeting)
        rows, far = nearest_to_one(query.vector, points.vectors, points.lengths, k, mask)
        part = points.keys.take(rows).append_column("_distance", pa.array(far))
        if points.hubs is not None:
            part = part.append_column(HUB, pa.array(points.hubs[rows]))
        both = pa.concat_tables([*parts, part])
        parts = [both.sort_by("_distance").slice(0, k)]
    return parts[0]
