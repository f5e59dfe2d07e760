"""A model's atoms as a space takes them: one layer, or several side by side."""

import numpy as np
import pandas as pd

from platonic_store.storage import lookup
from platonic_store.storage.layout import Level, Points
from platonic_store.storage.snapshot import ModelLayer, Snapshot


def side_points(
    snapshot: Snapshot, side: ModelLayer, condition: str | None = None, level: Level = "atom"
) -> Points:
    """The rows that meet a condition of Lance's, with the embeddings of all layers of a side.

    Of a set vectors are (n, ΣD), the layers as they are, in their order; rows that not all of the
    layers have are left out, and the keys are the first layer's.

    Raises: LayerNotFound.
    """
    tables = [lookup.vector_table(snapshot, one, level) for one in side.layers]
    first, *others = (snapshot.points(table, condition) for table in tables)
    if not others:
        return first
    index, rows, vectors = _index(first), np.arange(len(first.vectors)), [first.vectors]
    for one in others:
        place = _index(one).get_indexer(index)
        rows = rows[place[rows] >= 0]
        vectors.append(one.vectors[place])
    return Points(first.keys.take(rows), np.concatenate([one[rows] for one in vectors], axis=1))


def _index(points: Points) -> pd.MultiIndex:
    names = [one for one in ("structure_id", "site_index") if one in points.keys.column_names]
    return pd.MultiIndex.from_frame(points.keys.select(names).to_pandas())


def layer_widths(snapshot: Snapshot, side: ModelLayer) -> list[int]:
    """How many numbers each layer of a side has."""
    return [lookup.vector_table(snapshot, one, "atom").dim for one in side.layers]
