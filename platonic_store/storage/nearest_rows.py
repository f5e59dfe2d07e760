"""The rows of a Lance table that are nearest to a vector, by its index, measured anew exactly.

The index answers with the ids of rows. To read a row costs more than to find it, and each column by
itself: of the many that are looked at only what decides is read, of the answers what is asked for.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from platonic_store.arrow import vector_matrix
from platonic_store.geometry.neighbours import distances
from platonic_store.storage.layout import HUB, Level, key_names
from platonic_store.storage.rows_by_id import atoms_by_id, rows_by_id

if TYPE_CHECKING:
    from lance import LanceDataset

FIRST = 8  # times as many rows as are wanted: atoms stand for others, and some are not accepted
MOST = 16_384  # rows that are looked at; where fewer than one in a thousand is accepted it is slow
MANY = 500
MORE_PROBES = 4  # times as many lists for many rows, and
PROBES_OF_MANY = 32  # at least so many
PROBES_OF_OTHERS = 8  # lists, at least, for a vector that is no row's
REFINE = 5  # times as many rows as are wanted are measured exactly, or 200 more
AT_ONCE = 128  # rows at most of which vectors are read with the keys
SAFETY = 4  # times as many rows as a condition needs if it holds here as often as anywhere


class Accept(NamedTuple):
    """Which rows may answer.

    is_one: of their keys, (n,) bool. structures: the only ones that may, if some may not; share:
    how many of all those are. all_but: how many rows at most may not, where few may not: then only
    the nearest are asked.
    """

    is_one: Callable[[pa.Table], np.ndarray]
    structures: frozenset[str] | None = None
    share: float = 1
    all_but: int | None = None


ANY = Accept(lambda rows: np.ones(len(rows), dtype=bool), all_but=0)


def nearest_rows(
    table: "LanceDataset",
    level: Level,
    vector: np.ndarray,
    k: int,
    probes: int,
    accept: Accept | None = None,
    among: int = 0,
    refine: int = 1,
    *,
    is_row: bool = True,
) -> pa.Table | None:
    """The k nearest rows that are accepted, with their keys and `_distance`, the hub score if they
    are ordered by it, and of atoms the `multiplicity` where that is cheap to know.

    Of atoms only one of each set of equivalent sites answers. More and more rows are looked at
    until enough are accepted.

    among: how many of the nearest at least are ordered by distance + hub / 2; 0: by distance.
    refine: times as many rows as usual are looked at, and measured exactly.
    is_row: the vector is one of the table's, by which it was measured how many lists suffice.
        Another model's asks at least as many lists as ever, and what Lance reads beside them.

    Returns: None where that is not so for `MOST` rows, though there are more.
    """
    accept = accept or ANY
    most = max(MOST, refine * FIRST * k)
    wanted = max(k, among)
    enough = wanted + refine * max(5, wanted // 2)  # the index orders them roughly
    asked = refine * min(FIRST * wanted, 3 * wanted + 250)
    asked = min(most, max(asked, int(SAFETY * enough / max(accept.share, 1 / most))))
    spare = accept.all_but or 0
    columns = [*_deciding(level, accept), *[HUB] * (among > 0)]
    seen = np.empty(0, dtype=np.uint64)
    kept: list[pa.Table] = []
    least = probes if is_row else max(probes, PROBES_OF_OTHERS)
    while True:
        lists = max(MORE_PROBES * least, PROBES_OF_MANY) if asked > MANY else least
        limit = {"maximum_nprobes": lists} if is_row else {}
        found = search(table, vector, asked, lists, limit)
        if is_row and len(found) < asked:  # more than these lists have
            found = search(table, vector, asked, lists)
        is_new = ~np.isin(np.asarray(found["_rowid"]), seen)
        seen = np.append(seen, np.asarray(found["_rowid"])[is_new])
        at_once = among == 0 and not kept and len(found) <= refine * AT_ONCE
        needed = [*columns, *["vector"] * at_once]
        kept.append(_accepted(table, level, found.filter(pa.array(is_new)), accept, needed))
        count = sum(map(len, kept)) - spare
        if count >= enough or len(found) < asked or (asked >= most and count >= wanted):
            names = kept[-1].column_names
            every = pa.concat_tables([one.select(names) for one in kept])
            every = refined(table, vector, every, k + spare, refine, by_hubs=among > 0)
            return _answers(table, level, every, accept).slice(0, k)
        if asked >= most:
            return None
        asked = min(most, max(4 * asked, int(SAFETY * enough * len(seen) / max(count, 1))))


def nearest_among(
    table: "LanceDataset",
    level: Level,
    vector: np.ndarray,
    k: int,
    condition: str,
    refine: int = 1,
) -> pa.Table:
    """The k nearest of the rows that meet a condition of Lance's: k are found where k are there."""
    conditions = [f"({condition})", *["site_index = orbit"] * (level == "atom")]
    found = search(
        table,
        vector,
        refine * REFINE * k,
        1,
        # To find the rows costs more than to look for them in all partitions.
        {"search_effort": 1.0},
        {"filter": " AND ".join(conditions), "prefilter": True},
    )
    found = refined(table, vector, _with(table, found, key_names(level)), k, refine)
    return found.drop_columns("_rowid")


def refined(
    table: "LanceDataset",
    vector: np.ndarray,
    found: pa.Table,
    k: int,
    refine: int = 1,
    *,
    by_hubs: bool = False,
) -> pa.Table:
    """The k nearest of some rows, whose distances the index knows roughly, by their vectors.

    found: with `_rowid`, `_distance` and the columns that are wanted; `vector`, where it is read.
    """
    names = [name for name in found.column_names if name != "vector"]
    if not len(found):
        return found.select(names)
    penalty = np.asarray(found[HUB]) / 2 if by_hubs else np.zeros(len(found))
    if "vector" not in found.column_names:
        first = np.argsort(np.asarray(found["_distance"]) + penalty, kind="stable")
        first = first[: refine * min(REFINE * k, k + 200)]
        found, penalty = _with(table, found.take(first), ["vector"]), penalty[first]
    exact = np.round(distances(vector[None], vector_matrix(found["vector"]))[0], 12)
    order = np.argsort(exact + penalty, kind="stable")[:k]
    column = names.index("_distance")
    found = found.select(names).set_column(column, "_distance", pa.array(exact))
    return found.take(pa.array(order))


def search(
    table: "LanceDataset",
    vector: np.ndarray,
    k: int,
    probes: int,
    more: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
) -> pa.Table:
    """`_rowid` of the k rows that are nearest by the index, and `_distance`.

    more: Lance's own options. Without a maximum of lists it reads some more than are probed.
    """
    nearest = {"column": "vector", "q": vector, "k": k, "metric": "cosine"}
    nearest |= {"minimum_nprobes": probes} | (more or {})
    return table.to_table(
        columns=["_distance"], nearest=nearest, with_row_id=True, **(options or {})
    )


def _deciding(level: Level, accept: Accept) -> list[str]:
    """The columns by which a row is accepted or not."""
    names = ["structure_id"] * (accept.all_but is None)
    return [*names, "site_index", "orbit"] if level == "atom" else names


def _accepted(
    table: "LanceDataset", level: Level, found: pa.Table, accept: Accept, columns: list[str]
) -> pa.Table:
    """The rows that may answer, with some columns, which decide it."""
    if accept.structures is not None and len(found) > MANY:
        found = _with(table, found, ["structure_id"])
        owners = found["structure_id"].to_pylist()
        found = found.filter(pa.array([id_ in accept.structures for id_ in owners], pa.bool_()))
    found = _with(table, found, [name for name in columns if name not in found.column_names])
    if level == "atom":
        speaks = np.asarray(found["site_index"]) == np.asarray(found["orbit"])
        found = found.filter(pa.array(speaks))
    return found if accept.all_but is not None else found.filter(pa.array(accept.is_one(found)))


def _answers(table: "LanceDataset", level: Level, found: pa.Table, accept: Accept) -> pa.Table:
    """Rows with all of their keys, of atoms the multiplicity; those alone that are accepted."""
    ids = np.asarray(found["_rowid"])
    keys = atoms_by_id(table, ids) if level == "atom" else None
    keys = keys or rows_by_id(table, ids, key_names(level))
    for name in ("_distance", *{HUB} & {*found.column_names}):
        keys = keys.append_column(name, found[name])
    return keys if accept.all_but is None else keys.filter(pa.array(accept.is_one(keys)))


def _with(table: "LanceDataset", found: pa.Table, columns: list[str]) -> pa.Table:
    """Some rows with more columns."""
    if columns:
        read = rows_by_id(table, np.asarray(found["_rowid"]), columns)
        for name in columns:
            found = found.append_column(name, read[name])
    return found
