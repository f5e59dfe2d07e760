"""The sample that hub scores of a space are measured by: drawn when the space is made, and kept.

Whole structures are drawn by content, all of them in a store of MP-20's validation split, and the
models that agreed on the space see them in turn, so that the others of any one of them see each
once. A sample of few of the structures loses what hubs win at rank one (docs/recipes.md).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from platonic_store.geometry.anchors import random_rows
from platonic_store.geometry.hubs import Sample
from platonic_store.geometry.pooling import mean_by_structure
from platonic_store.geometry.projection import Projection, project
from platonic_store.storage import lookup
from platonic_store.storage.layout import Level
from platonic_store.storage.side_points import side_points
from platonic_store.storage.snapshot import ModelLayer, Snapshot
from platonic_store.storage.sqltext import literals

MOST_ATOMS = 32_768
_READ = 1_000  # structures at once


def draw(snapshot: Snapshot, projections: Mapping[ModelLayer, Projection]) -> dict[str, Sample]:
    """Coordinates of atoms, one for each set of equivalent sites, and of structures."""
    parts: dict[Level, list[tuple[np.ndarray, np.ndarray]]] = {"atom": [], "structure": []}
    shares, share = _shares(snapshot, list(projections))
    for number, (side, ids) in enumerate(shares):
        for first in range(0, len(ids), _READ):
            found = _coordinates(snapshot, side, projections[side], ids[first : first + _READ])
            for level, rows in found.items():
                parts[level].append((rows, np.full(len(rows), number)))
    return {
        level: Sample.of(
            np.concatenate([rows for rows, _ in some]),
            np.concatenate([model for _, model in some]),
            share,
        )
        for level, some in parts.items()
    }


def _shares(
    snapshot: Snapshot, sides: Sequence[ModelLayer]
) -> tuple[list[tuple[ModelLayer, list[str]]], float]:
    """Which of the structures that all have embedded each side sees, and the share others see."""
    tables = [
        lookup.vector_table(snapshot, layer, "structure").name
        for side in sides
        for layer in side.layers
    ]
    known = snapshot.frame(
        "SELECT s.id, s.distinct_sites FROM catalog.main.structures AS s JOIN ("
        "SELECT c.structure_id AS id FROM catalog.main.chunk_structures AS c "
        "JOIN catalog.main.table_appends AS a USING (chunk_id) "
        "WHERE list_contains(?, a.table_name) "
        "GROUP BY c.structure_id HAVING count(DISTINCT a.table_name) = ?) USING (id) ORDER BY s.id",
        [tables, len(tables)],
    )
    names = ("hubs " + known["id"]).to_numpy(dtype=object)
    order = random_rows(names, len(names), seed=0)
    order = np.concatenate([order, order])
    atoms = known["distinct_sites"].to_numpy()[order].cumsum()
    seen_by_others = (len(sides) - 1) / len(sides)
    whole = atoms[-1] / 2
    wanted = min(MOST_ATOMS, whole) / seen_by_others
    drawn = np.arange(len(order))[atoms <= wanted]
    seen_by = (drawn % len(names) + drawn // len(names)) % len(sides)
    ids = known["id"].to_numpy()
    seen = [
        (side, ids[order[drawn[seen_by == place]]].tolist()) for place, side in enumerate(sides)
    ]
    return seen, float(min(1, MOST_ATOMS / whole))


def _coordinates(
    snapshot: Snapshot, side: ModelLayer, fitted: Projection, ids: list[str]
) -> dict[Level, np.ndarray]:
    points = side_points(snapshot, side, f"structure_id IN ({literals(ids)})")
    keys = points.keys.select(["structure_id", "site_index"]).to_pandas()
    order = np.lexsort((keys["site_index"], keys["structure_id"]))
    coordinates = project(fitted, points.vectors[order])
    _, owner = np.unique(keys["structure_id"].to_numpy()[order], return_inverse=True)
    return {
        "atom": coordinates[points.is_distinct[order]],
        "structure": mean_by_structure(coordinates, owner),
    }
