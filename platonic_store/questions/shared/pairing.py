"""The same atoms, or structures, as several models embed them: where every comparison starts."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from platonic_store.errors import Call, InvalidQuery
from platonic_store.geometry.anchors import hashes, random_rows
from platonic_store.storage import lookup
from platonic_store.storage.layout import PRIMARY_KEY, Level, Points
from platonic_store.storage.side_points import side_points
from platonic_store.storage.snapshot import ModelLayer, Snapshot, VectorTable

PART = 200_000  # keys seen at once
MOST_PENDING = 500_000  # rows that may yet be of a sample
KINDS = 128  # more than there are elements


class PairedEmbeddings(NamedTuple):
    """Rows that several models have in common.

    keys: n rows sorted by structure_id (and site_index, for atoms, which come one for each set of
        symmetry-equivalent sites, with their atomic_number).
    vectors: of each model (n, dim) float32, in the order of the keys.
    hubs: of each model (n,) float32, or None outside a space that has them.
    """

    keys: pd.DataFrame
    vectors: list[np.ndarray]
    hubs: list[np.ndarray | None]


class Wanted(NamedTuple):
    """A sample: so many rows, and if `each_element` so many of each element."""

    rows: int
    each_element: bool
    seed: int


def paired_embeddings(
    snapshot: Snapshot,
    sides: Sequence[ModelLayer],
    level: Level = "atom",
    *,
    space: str | None = None,
    sample: int | None = None,
    each_element: bool = False,
    seed: int = 0,
    where: str | None = None,
) -> PairedEmbeddings:
    """What all models have embedded (or, with a `space`, projected), row for row.

    Of a set of layers without a space the layers come side by side, as they are.

    sample: at most so many rows, the same ones for the same content however it was stored. Only
        these are read.
    each_element: and so many of each element.
    where: an SQL condition on the columns of `structure` (and `site`, for atoms).

    Raises: LayerNotFound, AnchorsNotFound, InvalidQuery if they have nothing in common.
    """
    if sample is not None and where is None:
        return _sampled(snapshot, sides, level, space, Wanted(sample, each_element, seed))
    tables = [_points(snapshot, side, level, space) for side in sides]
    names = PRIMARY_KEY[level]
    keys = _rows(tables[0], 0)
    for i, table in enumerate(tables[1:], start=1):
        rows = _rows(table, i)[[*names, f"row_{i}"]]
        keys = keys.merge(rows, on=names, validate="one_to_one")
    if where is not None:
        keys = keys.merge(lookup.matching(snapshot, where, level)[names], on=names)
    if keys.empty:
        raise _nothing(sides, where)
    keys = keys.sort_values(names, ignore_index=True)
    if sample is not None and len(keys) > sample:
        keys = keys.iloc[np.sort(random_rows(_texts(keys), sample, seed))].reset_index(drop=True)
    vectors: list[np.ndarray] = []
    hubs: list[np.ndarray | None] = []
    for i, points in enumerate(tables):
        places = keys[f"row_{i}"].to_numpy()
        vectors.append(points.vectors[places])
        hubs.append(None if points.hubs is None else points.hubs[places])
    keys = keys.drop(columns=[f"row_{i}" for i in range(len(tables))])
    return PairedEmbeddings(keys, vectors, hubs)


def _points(snapshot: Snapshot, side: ModelLayer, level: Level, space: str | None) -> Points:
    if space is None:
        return side_points(snapshot, side, level=level)
    return snapshot.points(lookup.vector_table(snapshot, side, level, space))


def _nothing(sides: Sequence[ModelLayer], where: str | None = None) -> InvalidQuery:
    return InvalidQuery(
        f"{' and '.join(map(str, sides))} have embedded nothing in common"
        + (f" where {where}" if where else ""),
        Call("ingest", models=[side.model for side in sides]),
    )


def _texts(keys: pd.DataFrame) -> NDArray[np.object_]:
    """What rows are drawn by: not what random anchors are, or the sample would be the anchors."""
    parts = [pa.scalar("sample ", pa.large_string()), _text(keys["structure_id"])]
    if "site_index" in keys:
        parts += [pa.scalar(":", pa.large_string()), _text(keys["site_index"])]
    joined = pc.binary_join_element_wise(*parts, pa.scalar("", pa.large_string()))
    texts: NDArray[np.object_] = joined.to_numpy(zero_copy_only=False)
    return texts


def _text(column: pd.Series) -> pa.Array:
    return pc.cast(pa.array(column), pa.large_string())


def _sampled(
    snapshot: Snapshot,
    sides: Sequence[ModelLayer],
    level: Level,
    space: str | None,
    wanted: Wanted,
) -> PairedEmbeddings:
    layers = [side.layers if space is None else [side] for side in sides]
    tables = [lookup.vector_table(snapshot, one, level, space) for some in layers for one in some]
    if not all(table.rows for table in tables):
        raise _nothing(sides)
    keys = _common(snapshot, tables, wanted)
    if keys.empty:
        raise _nothing(sides)
    rows = [keys.pop(f"row_{i}").to_numpy() for i in range(len(tables))]
    points = [snapshot.points_at(*one) for one in zip(tables, rows, strict=True)]
    ends = np.cumsum([len(some) for some in layers]).tolist()
    parts = [points[end - len(some) : end] for some, end in zip(layers, ends, strict=True)]
    vectors = [np.hstack([one.vectors for one in part]) for part in parts]
    return PairedEmbeddings(keys, vectors, [part[0].hubs for part in parts])


def _common(snapshot: Snapshot, tables: Sequence[VectorTable], wanted: Wanted) -> pd.DataFrame:
    """Keys of the wanted rows that all tables have, sorted, with their places `row_0`, ….

    Those of the first table are drawn, and more where others lack too many of them.
    """
    names = PRIMARY_KEY[tables[0].level]
    most, is_short = wanted.rows, True
    while is_short:
        keys = drawn = _drawn(snapshot, tables[0], wanted._replace(rows=most))
        for i, table in enumerate(tables[1:], start=1):
            keys = keys.merge(_places(snapshot, table, keys, i), on=names, validate="one_to_one")
        is_short = _is_short(drawn, keys, most, wanted)
        most *= 4
    if not wanted.each_element:
        keys = keys.nsmallest(wanted.rows, "digest")
    return keys.drop(columns=["digest", "is_of_all"]).sort_values(names, ignore_index=True)


def _drawn(snapshot: Snapshot, table: VectorTable, wanted: Wanted) -> pd.DataFrame:
    """The rows of a table with the smallest hashes, and those of each element if wanted.

    Returns their keys, place `row_0`, `digest`, and whether they are of the smallest of all.
    """
    kept: list[pd.DataFrame] = []
    limits = np.full(KINDS, np.iinfo(np.uint64).max)
    for keys in distinct_keys(snapshot, table):
        digests = hashes(_texts(keys), wanted.seed).view(">u8")[::2].astype(np.uint64)
        may = digests <= limits[_kinds(keys, wanted)]
        kept.append(keys[may].assign(digest=digests[may]))
        if sum(map(len, kept[1:])) > MOST_PENDING:
            kept = [_smallest(pd.concat(kept), wanted)]
            limits = _limits(kept[0], wanted)
    found = _smallest(pd.concat(kept), wanted)
    return found.assign(is_of_all=np.arange(len(found)) < wanted.rows)


def _kinds(keys: pd.DataFrame, wanted: Wanted) -> np.ndarray:
    """(n,) which of the samples a row may be of: its element's, or the one there is."""
    return keys["atomic_number"].to_numpy() if wanted.each_element else np.zeros(len(keys), int)


def _limits(smallest: pd.DataFrame, wanted: Wanted) -> np.ndarray:
    """(KINDS,) uint64: a row with a larger digest is of no sample, as these rows are there."""
    kinds, limits = _kinds(smallest, wanted), np.zeros(KINDS, dtype=np.uint64)
    np.maximum.at(limits, kinds, smallest["digest"].to_numpy())
    is_open = np.bincount(kinds, minlength=KINDS) < wanted.rows
    return np.where(is_open, np.iinfo(np.uint64).max, limits)


def _smallest(keys: pd.DataFrame, wanted: Wanted) -> pd.DataFrame:
    keys = keys.sort_values("digest")
    is_drawn = np.arange(len(keys)) < wanted.rows
    if wanted.each_element:
        is_drawn |= (keys.groupby("atomic_number").cumcount() < wanted.rows).to_numpy()
    return keys[is_drawn]


def _is_short(drawn: pd.DataFrame, left: pd.DataFrame, most: int, wanted: Wanted) -> bool:
    """Whether so few of what was drawn are left that more must be, and more are there."""
    pairs = [(drawn["is_of_all"].sum(), left["is_of_all"].sum())]
    if wanted.each_element:
        before, after = (one["atomic_number"].value_counts() for one in (drawn, left))
        pairs += [(count, after.get(number, 0)) for number, count in before.items()]
    return any(before >= most and after < wanted.rows for before, after in pairs)


def _places(snapshot: Snapshot, table: VectorTable, keys: pd.DataFrame, side: int) -> pd.DataFrame:
    """Where the rows of some structures lie in a table, by their keys, as `row_SIDE`."""
    names = PRIMARY_KEY[table.level]
    wanted = _text(keys["structure_id"]).unique()
    found = []
    for part in distinct_keys(snapshot, table, side):
        is_one = np.asarray(pc.is_in(_text(part["structure_id"]), wanted))
        found.append(part.loc[is_one, [*names, f"row_{side}"]])
    return pd.concat(found)


def distinct_keys(snapshot: Snapshot, table: VectorTable, side: int = 0) -> Iterator[pd.DataFrame]:
    """The keys of a table's rows, of equivalent atoms one, and their places as `row_SIDE`.

    Some at a time, in the table's order.
    """
    start, pending = 0, []
    for batch in snapshot.keys(table):
        pending.append(batch)
        rows = sum(one.num_rows for one in pending)
        if rows >= PART or start + rows == table.rows:
            yield _keys(pa.Table.from_batches(pending), side, start)
            start, pending = start + rows, []


def _rows(points: Points, side: int) -> pd.DataFrame:
    return _keys(points.keys, side, 0)


def _keys(table: pa.Table, side: int, start: int) -> pd.DataFrame:
    """The keys of rows, of equivalent atoms one, and their places from `start` on."""
    keys: pd.DataFrame = table.to_pandas()
    keys[f"row_{side}"] = np.arange(start, start + len(keys))
    if "orbit" in keys:
        keys = keys[keys["site_index"] == keys["orbit"]].drop(columns="orbit")
    return keys
