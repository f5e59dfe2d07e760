"""The rows of a Lance table that are nearest to a vector, by its index, measured anew exactly.

The index answers with the ids of rows. To read a row costs more than to find it: of many rows the
structure is read first, and what else is needed of those that may answer.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from platonic_store.arrow import vector_matrix
from platonic_store.geometry.neighbours import distances
from platonic_store.storage.layout import HUB, Level, key_names

if TYPE_CHECKING:
    from lance import LanceDataset

FIRST = 8  # times as many rows as are wanted: atoms stand for others, and some are not accepted
MOST = 16_384  # rows that are looked at; where fewer than one in a thousand is accepted it is slow
MORE_PROBES = 4  # times as many, for many rows
MANY = 500
REFINE = 5  # times as many rows as are wanted are measured exactly, or 200 more
AT_ONCE = 128  # rows at most of which vectors are read with the keys
SAFETY = 4  # times as many rows as a condition needs if it holds here as often as anywhere


class Accept(NamedTuple):
    """Which rows may answer.

    is_one: of their keys, (n,) bool. structures: the only ones that may, if some may not; share:
    how many of all those are.
    """

    is_one: Callable[[pa.Table], np.ndarray]
    structures: frozenset[str] | None = None
    share: float = 1


def nearest_rows(
    table: "LanceDataset",
    level: Level,
    vector: np.ndarray,
    k: int,
    probes: int,
    accept: Accept | None = None,
    among: int = 0,
) -> pa.Table | None:
    """The k nearest rows that are accepted, with `_distance` and the hub score if there is one.

    Of atoms only one of each set of equivalent sites answers. More and more rows are looked at
    until enough are accepted.

    among: how many of the nearest at least are ordered by distance + hub / 2; 0: by distance.

    Returns: None where that is not so for `MOST` rows, though there are more.
    """
    most = max(MOST, FIRST * k)
    wanted = max(k, among)
    enough = wanted + max(5, wanted // 2)  # the index orders them roughly
    asked = min(FIRST * wanted, 3 * wanted + 250)
    if accept is not None:
        asked = min(most, max(asked, int(SAFETY * enough / max(accept.share, 1 / most))))
    seen = np.empty(0, dtype=np.uint64)
    kept: list[pa.Table] = []
    while True:
        found = _search(table, vector, asked, probes * (MORE_PROBES if asked > MANY else 1))
        is_new = ~np.isin(np.asarray(found["_rowid"]), seen)
        seen = np.append(seen, np.asarray(found["_rowid"])[is_new])
        at_once = among == 0 and not kept and len(found) <= AT_ONCE
        kept.append(_accepted(table, level, found.filter(pa.array(is_new)), accept, at_once))
        count = sum(map(len, kept))
        if count >= enough or len(found) < asked or (asked >= most and count >= wanted):
            names = kept[-1].column_names
            every = pa.concat_tables([one.select(names) for one in kept])
            return refined(table, vector, every, k, by_hubs=among > 0)
        if asked >= most:
            return None
        asked = min(most, max(4 * asked, int(SAFETY * enough * len(seen) / max(count, 1))))


def nearest_among(
    table: "LanceDataset", level: Level, vector: np.ndarray, k: int, condition: str
) -> pa.Table:
    """The k nearest of the rows that meet a condition of Lance's: k are found where k are there."""
    conditions = [f"({condition})", *["site_index = orbit"] * (level == "atom")]
    found = _search(
        table,
        vector,
        REFINE * k,
        1,
        # To find the rows costs more than to look for them in all partitions.
        {"search_effort": 1.0},
        {"filter": " AND ".join(conditions), "prefilter": True},
    )
    return refined(table, vector, _with(table, found, _keys(table, level)), k)


def refined(
    table: "LanceDataset", vector: np.ndarray, found: pa.Table, k: int, *, by_hubs: bool = False
) -> pa.Table:
    """The k nearest of some rows, whose distances the index knows roughly, by their vectors.

    found: with `_rowid`, `_distance` and the columns that are wanted; `vector`, where it is read.
    """
    names = [name for name in found.column_names if name not in ("_rowid", "vector")]
    if not len(found):
        return found.select(names)
    penalty = np.asarray(found[HUB]) / 2 if by_hubs else np.zeros(len(found))
    if "vector" not in found.column_names:
        first = np.argsort(np.asarray(found["_distance"]) + penalty, kind="stable")
        first = first[: min(REFINE * k, k + 200)]
        found, penalty = _with(table, found.take(first), ["vector"]), penalty[first]
    exact = np.round(distances(vector[None], vector_matrix(found["vector"]))[0], 12)
    order = np.argsort(exact + penalty, kind="stable")[:k]
    column = names.index("_distance")
    found = found.select(names).set_column(column, "_distance", pa.array(exact))
    return found.take(pa.array(order))


def _search(
    table: "LanceDataset",
    vector: np.ndarray,
    k: int,
    probes: int,
    more: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
) -> pa.Table:
    """`_rowid` of the k rows that are nearest by the index, and `_distance`."""
    nearest = {"column": "vector", "q": vector, "k": k, "metric": "cosine"}
    nearest |= {"minimum_nprobes": probes} | (more or {})
    return table.to_table(
        columns=["_distance"], nearest=nearest, with_row_id=True, **(options or {})
    )


def _accepted(
    table: "LanceDataset", level: Level, found: pa.Table, accept: Accept | None, at_once: bool
) -> pa.Table:
    """The rows that may answer, with their keys; at_once: and vectors."""
    if accept is not None and accept.structures is not None and len(found) > MANY:
        owners = _read(table, found["_rowid"], ["structure_id"])["structure_id"].to_pylist()
        found = found.filter(pa.array([id_ in accept.structures for id_ in owners], pa.bool_()))
    found = _with(table, found, [*_keys(table, level), *["vector"] * at_once])
    if level == "atom":
        speaks = np.asarray(found["site_index"]) == np.asarray(found["orbit"])
        found = found.filter(pa.array(speaks))
    return found if accept is None else found.filter(pa.array(accept.is_one(found)))


def _keys(table: "LanceDataset", level: Level) -> list[str]:
    return [*key_names(level), *({HUB} & {*table.schema.names})]


def _with(table: "LanceDataset", found: pa.Table, columns: list[str]) -> pa.Table:
    """Some rows with more columns."""
    read = _read(table, found["_rowid"], columns)
    for name in columns:
        found = found.append_column(name, read[name])
    return found


def _read(table: "LanceDataset", ids: pa.ChunkedArray, columns: list[str]) -> pa.Table:
    """Columns of some rows by their ids, in their order."""
    if not len(ids):
        return table.schema.empty_table().select(columns)
    order = np.argsort(np.asarray(ids))
    ascending = np.asarray(ids)[order]
    places = _places(table, ascending)
    if places is not None:  # half the time of a filter
        read = table.take(places.tolist(), columns=columns)
    else:
        names = ", ".join(map(str, ascending))
        read = table.to_table(columns=columns, filter=f"_rowid IN ({names})", with_row_id=True)
        read = read.take(pa.array(np.argsort(np.asarray(read["_rowid"])))).drop_columns("_rowid")
    return read.take(pa.array(np.argsort(order)))


def _places(table: "LanceDataset", ids: np.ndarray) -> np.ndarray | None:
    """Where the rows of some ids lie in a table's order; None if rows of it were deleted.

    An id is the number of the fragment, and the place in that.
    """
    fragments = table.get_fragments()
    if any(one.num_deletions for one in fragments):
        return None
    sizes = np.array([one.physical_rows for one in fragments])
    starts = dict(
        zip((one.fragment_id for one in fragments), np.cumsum(sizes) - sizes, strict=True)
    )
    numbers, places = (ids >> np.uint64(32)).tolist(), (ids & np.uint64(0xFFFFFFFF))
    return np.array([starts[number] for number in numbers], dtype=np.int64) + places.astype(
        np.int64
    )
