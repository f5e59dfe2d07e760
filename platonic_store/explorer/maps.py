"""Where each model puts structures and atoms on the map that all of them share."""

from typing import NamedTuple

import numpy as np

from platonic_store.errors import AnchorsNotFound, Call, PlatonicError, worded
from platonic_store.explorer import rows
from platonic_store.explorer.rows import kept
from platonic_store.geometry import pca_map
from platonic_store.storage import lookup
from platonic_store.storage.layout import Level
from platonic_store.storage.snapshot import ModelLayer, Snapshot

ABSENT = 65_535  # the coordinate of what a model has not embedded
_SAMPLE = 20_000
_INSIDE = 99.5  # percentile of the points that the frame of a PCA map holds


class MapKind(NamedTuple):
    """How the map was made: its method, and a word to the reader about it."""

    method: str
    note: str


@kept
def kind(snapshot: Snapshot) -> MapKind | None:
    """How the map of this store was made; None if the models share no space."""
    if not sides(snapshot):
        return None
    if _is_stored(snapshot):
        return MapKind("stored", "")
    note = "principal axes; a truer map is made by " + worded((Call("map"),)).removeprefix("run ")
    return MapKind("pca", note)


@kept
def sides(snapshot: Snapshot) -> list[ModelLayer]:
    """The models' layers that have a place on the map, in the order of the store's models."""
    try:
        space = lookup.space(snapshot, None, [])
    except AnchorsNotFound:
        return []
    found = {ModelLayer(one.model, one.layer) for one in snapshot.tables if one.space == space}
    order = list(snapshot.models)
    return sorted(found, key=lambda side: (order.index(side.model), side.layer))


@kept
def quantised(snapshot: Snapshot, level: Level, side: ModelLayer) -> bytes:
    """uint16 x of every row, then y; 0 to 65,534 over −1 to 1, `ABSENT` where the model has none.

    Raises: AnchorsNotFound if that layer is not on the map.
    """
    if side not in sides(snapshot):
        raise AnchorsNotFound(f"{side} is not on the map", Call("project", models=[str(side)]))
    places = np.full((rows.count(snapshot, level), 2), ABSENT, dtype="<u2")
    which, xy = _stored(snapshot, level, side) if _is_stored(snapshot) else (
        _by_principal_axes(snapshot, level, side)
    )  # fmt: skip
    is_known = which >= 0
    steps = np.rint((xy[is_known].clip(-1, 1) + 1) * (ABSENT - 1) / 2)
    places[which[is_known]] = steps.astype("<u2")
    return places.T.tobytes()


def _is_stored(snapshot: Snapshot) -> bool:
    known = snapshot.rows("SELECT 1 FROM duckdb_views() WHERE view_name = 'structure_map'")
    return bool(known) and bool(snapshot.rows("SELECT 1 FROM structure_map LIMIT 1"))


def _stored(snapshot: Snapshot, level: Level, side: ModelLayer) -> tuple[np.ndarray, np.ndarray]:
    found = snapshot.cursor().execute(
        f"FROM {level}_map WHERE model = ? AND layer = ?", [side.model, side.layer]
    ).to_arrow_table()  # fmt: skip
    xy = np.column_stack([np.asarray(found["x"]), np.asarray(found["y"])])
    return rows.rows_of(snapshot, level, found), xy


def _by_principal_axes(
    snapshot: Snapshot, level: Level, side: ModelLayer
) -> tuple[np.ndarray, np.ndarray]:
    """The rows that a model has, and their places on the principal axes of all models together."""
    axes, centre, half = _frame(snapshot, level)
    space = lookup.space(snapshot, None, [])
    points = snapshot.points(lookup.vector_table(snapshot, side, level, space))
    which = np.flatnonzero(points.is_distinct)
    xy = (pca_map.apply(axes, points.vectors[which]) - centre) / half
    return rows.rows_of(snapshot, level, points.keys.take(which)), xy


@kept
def _frame(snapshot: Snapshot, level: Level) -> tuple[pca_map.Axes, np.ndarray, float]:
    """The axes, and the centre and half width of the square that holds most points."""
    space = lookup.space(snapshot, None, [])
    parts = []
    for side in sides(snapshot):
        points = snapshot.points(lookup.vector_table(snapshot, side, level, space))
        which = np.flatnonzero(points.is_distinct)
        parts.append(points.vectors[which[:: max(1, len(which) // _SAMPLE)]])
    stacked = np.concatenate(parts)
    axes = pca_map.principal_axes(stacked)
    xy = pca_map.apply(axes, stacked)
    low, high = np.percentile(xy, [100 - _INSIDE, _INSIDE], axis=0)
    half = float((high - low).max() / 2 * 1.05) or 1.0
    return axes, (low + high) / 2, half


def why_no_map(snapshot: Snapshot) -> str:
    """Why there is no map, and what makes one."""
    try:
        lookup.space(snapshot, None, [])
    except PlatonicError as error:
        return f"{error}; {worded(error.hint)}"
    return ""
