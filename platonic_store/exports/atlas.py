"""Parquet for embedding-atlas, with positions, neighbours and all that is known, a row a point.

    embedding-atlas atlas.parquet --x x --y y --neighbors neighbors

`neighbors` is a struct of `ids`, which are rows of this file from zero on, and `distances`, as its
documentation asks: https://apple.github.io/embedding-atlas/tool.html
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from platonic_store.exports.tables import on_the_map, table
from platonic_store.questions.neighbours import neighbours
from platonic_store.storage.layout import PRIMARY_KEY, Level
from platonic_store.storage.snapshot import ModelLayer, Snapshot

K = 10


def write_structures(snapshot: Snapshot, path: Path, models: Sequence[str]) -> None:
    """A row a structure; the neighbours are the first model's."""
    _write(snapshot, path, models, "structure")


def write_atoms(snapshot: Snapshot, path: Path, models: Sequence[str]) -> None:
    """A row a distinct atom; the neighbours are the first model's."""
    _write(snapshot, path, models, "atom")


def _write(snapshot: Snapshot, path: Path, models: Sequence[str], level: Level) -> None:
    from pyarrow import parquet

    sides = on_the_map(snapshot, models)
    rows = table(snapshot, level, sides)
    made = pa.Table.from_pandas(rows, preserve_index=False)
    parquet.write_table(
        made.append_column("neighbors", _neighbours(snapshot, rows, sides[0], level)),
        path,
        compression="zstd",
    )


def _neighbours(
    snapshot: Snapshot, rows: pd.DataFrame, side: ModelLayer, level: Level
) -> pa.StructArray:
    """Of each row the rows most like it, nearest first; none where the model has not seen it."""
    own = PRIMARY_KEY[level]
    other = ["neighbour", "neighbour_site"][: len(own)]
    found = neighbours(snapshot, model=str(side), k=K, level=level)
    row = pd.Series(np.arange(len(rows)), pd.MultiIndex.from_frame(rows[own]))
    asked = row.reindex(pd.MultiIndex.from_frame(found[own])).to_numpy()
    near = row.reindex(pd.MultiIndex.from_frame(found[other])).to_numpy()
    known = ~(np.isnan(asked) | np.isnan(near))
    found = found[known].assign(asked=asked[known].astype(int), near=near[known].astype(int))
    found = found.sort_values(["asked", "rank"])
    ends = np.searchsorted(found["asked"], np.arange(len(rows) + 1)).astype(np.int32)
    return pa.StructArray.from_arrays(
        [
            pa.ListArray.from_arrays(ends, pa.array(found[name].to_numpy()))
            for name in ("near", "distance")
        ],
        ["ids", "distances"],
    )
