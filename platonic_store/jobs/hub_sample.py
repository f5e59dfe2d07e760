"""The sample that hub scores of a space are measured by: drawn when the space is made, and kept.

Whole structures are drawn by content, all of them in a store of MP-20's validation split, and each
model that agreed on the space sees them. Where they are a small part of the store, the space has no
hub scores: they would count by that part alone (docs/recipes.md).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from platonic_store.geometry.anchors import random_rows
from platonic_store.geometry.hubs import Seen
from platonic_store.geometry.pooling import mean_by_structure
from platonic_store.geometry.projection import Projection, project
from platonic_store.storage import lookup
from platonic_store.storage.layout import Level
from platonic_store.storage.side_points import side_points
from platonic_store.storage.snapshot import ModelLayer, Snapshot
from platonic_store.storage.sqltext import literals

MOST_ATOMS = 32_768
LEAST_SHARE = 0.1
_READ = 1_000  # structures at once


def draw(snapshot: Snapshot, projections: Mapping[ModelLayer, Projection]) -> dict[Level, Seen]:
    """Coordinates of atoms, one for each set of equivalent sites, and of structures.

    Empty where MOST_ATOMS are less than LEAST_SHARE of all.
    """
    ids, share = _drawn(snapshot, list(projections))
    if share < LEAST_SHARE:
        return {}
    parts: dict[Level, list[np.ndarray]] = {"atom": [], "structure": []}
    for side, fitted in projections.items():
        found = [
            _coordinates(snapshot, side, fitted, ids[first : first + _READ])
            for first in range(0, len(ids), _READ)
        ]
        for level, of_sides in parts.items():
            of_sides.append(np.concatenate([one[level] for one in found]))
    return {level: Seen.of(np.stack(of_sides), share) for level, of_sides in parts.items()}


def _drawn(snapshot: Snapshot, sides: Sequence[ModelLayer]) -> tuple[list[str], float]:
    """Which of the structures that all have embedded are drawn, and the share of atoms they are."""
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
    atoms = known["distinct_sites"].to_numpy()[order].cumsum()
    drawn = order[atoms <= MOST_ATOMS]
    return known["id"].to_numpy()[drawn].tolist(), float(min(1, MOST_ATOMS / atoms[-1]))


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
