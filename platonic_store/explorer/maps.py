"""Where each model puts structures and atoms on the map that all of them share."""

from typing import NamedTuple

import numpy as np

from platonic_store.errors import AnchorsNotFound, Call, PlatonicError, worded
from platonic_store.explorer import rows
from platonic_store.explorer.rows import cached
from platonic_store.geometry import layout, pca_map
from platonic_store.geometry.projection import project
from platonic_store.storage import lookup
from platonic_store.storage.layout import Level
from platonic_store.storage.snapshot import ModelLayer, Snapshot

ABSENT = 65_535  # the coordinate of what a model has not embedded
REACH = 1.5  # the map is about ±1; a few points lie beyond
_SAMPLE = 20_000
_INSIDE = 99.5  # percentile of the points that the frame of a PCA map holds


class MapKind(NamedTuple):
    """How the map was made: its method, and a word to the reader about it."""

    method: str
    note: str


@cached
def kind(snapshot: Snapshot) -> MapKind | None:
    """How the map of this store was made; None if the models share no space."""
    if not sides(snapshot):
        return None
    if _is_stored(snapshot):
        return MapKind("stored", "")
    return MapKind("pca", "these are principal axes, a truer map is made by `platonic-store map`")


@cached
def sides(snapshot: Snapshot) -> list[ModelLayer]:
    """The models' layers that have a place on the map, in the order of the store's models."""
    if _is_stored(snapshot):
        rows = snapshot.rows("SELECT DISTINCT model, layer FROM structure_map")
        found = {ModelLayer(model, layer) for model, layer in rows if model in snapshot.models}
    elif (space := _space(snapshot)) is not None:
        found = {ModelLayer(one.model, one.layer) for one in snapshot.tables if one.space == space}
    else:
        found = set()
    order = list(snapshot.models)
    return sorted(found, key=lambda side: (order.index(side.model), side.layer))


def place(
    snapshot: Snapshot, level: Level, side: ModelLayer, embeddings: np.ndarray
) -> list[list[float]]:
    """Where embeddings (n, dim) by a model's layer lie on the map: (n, 2).

    Raises: AnchorsNotFound.
    """
    space = _space(snapshot)
    if space is None:
        lookup.space(snapshot, None, [])  # says why
        return []
    coordinates = project(lookup.projection(snapshot, space, side), embeddings)
    if level == "structure":
        coordinates = coordinates.mean(0, keepdims=True)
    if _is_stored(snapshot):
        xy = layout.place(lookup.layout(snapshot, level), coordinates)
    else:
        axes, centre, half = _frame(snapshot, level)
        xy = (pca_map.apply(axes, coordinates) - centre) / half
    found: list[list[float]] = np.round(xy.astype(np.float64), 4).tolist()
    return found


@cached
def quantised(snapshot: Snapshot, level: Level, side: ModelLayer) -> bytes:
    """uint16 x of every row, then y; 0 to 65,534 over ±`REACH`, `ABSENT` where it has none.

    Raises: AnchorsNotFound if that layer is not on the map.
    """
    if side not in sides(snapshot):
        raise AnchorsNotFound(f"{side} is not on the map", Call("project", models=[str(side)]))
    places = np.full((rows.count(snapshot, level), 2), ABSENT, dtype="<u2")
    which, xy = (
        _stored(snapshot, level, side)
        if _is_stored(snapshot)
        else (_by_principal_axes(snapshot, level, side))
    )
    is_known = which >= 0
    steps = np.rint((xy[is_known].clip(-REACH, REACH) + REACH) * (ABSENT - 1) / 2 / REACH)
    places[which[is_known]] = steps.astype("<u2")
    return places.T.tobytes()


@cached
def _is_stored(snapshot: Snapshot) -> bool:
    return bool(snapshot.rows("SELECT 1 FROM structure_map LIMIT 1"))


@cached
def _space(snapshot: Snapshot) -> str | None:
    """The space whose coordinates the map shows."""
    if _is_stored(snapshot):
        return lookup.map_space(snapshot)
    try:
        return lookup.space(snapshot, None, [])
    except AnchorsNotFound:
        return None


def _stored(snapshot: Snapshot, level: Level, side: ModelLayer) -> tuple[np.ndarray, np.ndarray]:
    found = snapshot.execute(
        f"FROM {level}_map WHERE model = ? AND layer = ?", [side.model, side.layer]
    ).to_arrow_table()
    xy = np.column_stack([np.asarray(found["x"]), np.asarray(found["y"])])
    return rows.rows_of(snapshot, level, found), xy


def _by_principal_axes(
    snapshot: Snapshot, level: Level, side: ModelLayer
) -> tuple[np.ndarray, np.ndarray]:
    """The rows that a model has, and their places on the principal axes of all models together."""
    axes, centre, half = _frame(snapshot, level)
    space = _space(snapshot)
    points = snapshot.points(lookup.vector_table(snapshot, side, level, space))
    which = np.flatnonzero(points.is_distinct)
    xy = (pca_map.apply(axes, points.vectors[which]) - centre) / half
    return rows.rows_of(snapshot, level, points.keys.take(which)), xy


@cached
def _frame(snapshot: Snapshot, level: Level) -> tuple[pca_map.Axes, np.ndarray, float]:
    """The axes, and the centre and half width of the square that holds most points."""
    space = _space(snapshot)
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
