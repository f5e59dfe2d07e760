"""The rows of a Lance table that are nearest to a vector, by its index, measured anew exactly."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from platonic_store.arrow import vector_matrix
from platonic_store.geometry.neighbours import distances
from platonic_store.storage.layout import HUB, Level, key_names

if TYPE_CHECKING:
    from lance import LanceDataset

# Which of some rows, by their keys, may answer: (n,) bool.
Accept: TypeAlias = Callable[[pa.Table], np.ndarray]

FIRST = 8  # times as many rows as are wanted: atoms stand for others, and some are not accepted
MOST = 16_384  # rows that are looked at; where fewer than one in a thousand is accepted it is slow
MORE_PROBES = 4  # times as many, for many rows
MANY = 500
REFINE = 5  # times as many rows as are wanted are measured exactly, or 200 more


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
    while True:
        found = _query(table, level, vector, asked, probes * (MORE_PROBES if asked > MANY else 1))
        rows = found.num_rows
        found = _speaking(found, level)
        if accept is not None:
            found = found.filter(pa.array(accept(found)))
        if len(found) >= enough or rows < asked or (asked >= most and len(found) >= wanted):
            return refined(table, vector, found, k, by_hubs=among > 0)
        if asked >= most:
            return None
        share = max(len(found), 1) / rows
        asked = min(most, max(4 * asked, int(2 * enough / share)))


def nearest_among(
    table: "LanceDataset", level: Level, vector: np.ndarray, k: int, condition: str
) -> pa.Table:
    """The k nearest of the rows that meet a condition of Lance's: k are found where k are there."""
    conditions = [f"({condition})", *["site_index = orbit"] * (level == "atom")]
    found = _query(
        table,
        level,
        vector,
        REFINE * k,
        1,
        # To find the rows costs more than to look for them in all partitions.
        {"search_effort": 1.0},
        {"filter": " AND ".join(conditions), "prefilter": True},
    )
    return refined(table, vector, found, k)


def refined(
    table: "LanceDataset", vector: np.ndarray, found: pa.Table, k: int, *, by_hubs: bool = False
) -> pa.Table:
    """The k nearest of some rows, whose distances the index knows roughly, by their vectors."""
    if not len(found):
        return found.drop_columns("_rowid")
    penalty = np.asarray(found[HUB]) / 2 if by_hubs else np.zeros(len(found))
    first = np.argsort(np.asarray(found["_distance"]) + penalty, kind="stable")
    first = first[: min(REFINE * k, k + 200)]
    found, penalty = found.take(first), penalty[first]
    ids = ", ".join(map(str, found["_rowid"].to_pylist()))
    read = table.to_table(columns=["vector"], filter=f"_rowid IN ({ids})", with_row_id=True)
    place = np.argsort(np.asarray(read["_rowid"]))
    rank = np.argsort(np.argsort(np.asarray(found["_rowid"])))
    exact = np.round(distances(vector[None], vector_matrix(read["vector"])[place][rank])[0], 12)
    order = np.argsort(exact + penalty, kind="stable")[:k]
    column = found.column_names.index("_distance")
    found = found.set_column(column, "_distance", pa.array(exact)).take(pa.array(order))
    return found.drop_columns("_rowid")


def _query(
    table: "LanceDataset",
    level: Level,
    vector: np.ndarray,
    k: int,
    probes: int,
    more: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
) -> pa.Table:
    nearest = {"column": "vector", "q": vector, "k": k, "metric": "cosine"}
    nearest |= {"minimum_nprobes": probes} | (more or {})
    columns = [*key_names(level), "_distance", *({HUB} & {*table.schema.names})]
    return table.to_table(columns=columns, nearest=nearest, with_row_id=True, **(options or {}))


def _speaking(found: pa.Table, level: Level) -> pa.Table:
    if level == "structure":
        return found
    return found.filter(pa.array(np.asarray(found["site_index"]) == np.asarray(found["orbit"])))
