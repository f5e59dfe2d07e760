"""The same atoms, or structures, as several models embed them: where every comparison starts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from platonic_store.errors import Call, InvalidQuery
from platonic_store.geometry.anchors import random_rows
from platonic_store.storage import lookup
from platonic_store.storage.layout import Level, Points
from platonic_store.storage.side_points import side_points
from platonic_store.storage.snapshot import ModelLayer, Snapshot


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


def paired_embeddings(
    snapshot: Snapshot,
    sides: Sequence[ModelLayer],
    level: Level = "atom",
    *,
    space: str | None = None,
    sample: int | None = None,
    seed: int = 0,
    where: str | None = None,
) -> PairedEmbeddings:
    """What all models have embedded (or, with a `space`, projected), row for row.

    Of a set of layers without a space the layers come side by side, as they are.

    sample: at most so many rows, the same ones for the same content however it was stored.
    where: an SQL condition on the columns of `structure` (and `site`, for atoms).

    Raises: LayerNotFound, AnchorsNotFound, InvalidQuery if they have nothing in common.
    """
    tables = [_points(snapshot, side, level, space) for side in sides]
    names = ["structure_id", "site_index"] if level == "atom" else ["structure_id"]
    keys = _rows(tables[0], 0)
    for i, table in enumerate(tables[1:], start=1):
        rows = _rows(table, i)[[*names, f"row_{i}"]]
        keys = keys.merge(rows, on=names, validate="one_to_one")
    if where is not None:
        keys = keys.merge(lookup.matching(snapshot, where, level)[names], on=names)
    if keys.empty:
        raise InvalidQuery(
            f"{' and '.join(map(str, sides))} have embedded nothing in common"
            + (f" where {where}" if where else ""),
            Call("ingest", models=[side.model for side in sides]),
        )
    keys = keys.sort_values(names, ignore_index=True)
    if sample is not None and len(keys) > sample:
        # Not the texts that random anchors are drawn by: the sample would be the anchors.
        texts = "sample " + keys[names].astype(str).agg(":".join, axis=1).to_numpy(dtype=object)
        keys = keys.iloc[np.sort(random_rows(texts, sample, seed))].reset_index(drop=True)
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


def _rows(points: Points, side: int) -> pd.DataFrame:
    """The keys of a table's rows, of equivalent atoms one, and where they lie in it."""
    keys: pd.DataFrame = points.keys.drop_columns("chunk_id").to_pandas()
    keys[f"row_{side}"] = np.arange(len(keys))
    if "orbit" in keys:
        keys = keys[keys["site_index"] == keys["orbit"]].drop(columns="orbit")
    return keys
