"""What names stand for in a state of a store: models, layers, spaces, structures, conditions.

Each function raises an error that names what is there instead.
"""

import difflib
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

import duckdb
import numpy as np

from platonic_store.errors import (
    AnchorsNotFound,
    Call,
    InvalidQuery,
    LayerNotFound,
    MapNotFound,
    ModelNotFound,
    StructureNotFound,
)
from platonic_store.geometry.layout import Layout
from platonic_store.geometry.projection import Projection
from platonic_store.storage import bulk, layer_sets
from platonic_store.storage.layout import Level
from platonic_store.storage.snapshot import ModelLayer, Snapshot, VectorTable
from platonic_store.storage.sqltext import literals, one_line, require_condition

if TYPE_CHECKING:
    import pandas as pd


ALONE = "alone"  # the recipe of spaces that only some models agreed on


def model(snapshot: Snapshot, name: str | None) -> str:
    """The model of that name or alias, in upper or lower case; the first one if None.

    Raises: ModelNotFound.
    """
    models = snapshot.models
    if not models:
        raise ModelNotFound(
            "the store holds no embeddings yet", Call("ingest", "SOURCE", models=["sevennet-0"])
        )
    if name is None:
        return next(iter(models))
    names = {alias.lower(): own for own, one in models.items() for alias in one.aliases}
    names |= {own.lower(): own for own in models}
    if name.lower() in names:
        return names[name.lower()]
    close = difflib.get_close_matches(name.lower(), names, n=1)
    raise ModelNotFound(
        f"the store has no embeddings by {name} (it has {', '.join(models)})",
        *(f"you may mean {names[one]}" for one in close),
        Call("ingest", models=[name]),
    )


def model_layer(snapshot: Snapshot, text: str | None) -> ModelLayer:
    """The model and layer (`@1`) or layers (`@0+1`) that a text names; without, the default one.

    Without a name the store's first model. The default layer is the card's where that is stored,
    else the first stored one.

    Raises: ModelNotFound, LayerNotFound, InvalidQuery.
    """
    name, _, number = (text or "").partition("@")
    named = layer_sets.read(number)
    if number and named is None:
        raise InvalidQuery(
            f"{text}: a layer is a number", f"write it as in {name}@0, or in a space {name}@0+1"
        )
    found = model(snapshot, name or None)
    tables = (table for table in snapshot.tables if table.model == found)
    stored = sorted({table.layer for table in tables if table.space is None})
    if named is None:
        default = snapshot.models[found].default_layer
        return ModelLayer(found, default if default in stored or not stored else stored[0])
    missing = sorted({*layer_sets.layers_of(named)} - {*stored})
    if missing:
        text = ",".join(map(str, missing))
        raise LayerNotFound(
            f"the store has layers {stored} of {found}, not {text}",
            Call("ingest", models=[found], layers=text),
        )
    return ModelLayer(found, named)


def side_in(snapshot: Snapshot, space: str, text: str | None) -> ModelLayer:
    """The model that `MODEL` names with what a space takes of it, or as `MODEL@LAYER` says.

    Where a space takes several things of a model, the model's default layers or layer, else the
    first. What is not there stays the default, which `vector_table` refuses.

    Raises: ModelNotFound, LayerNotFound, InvalidQuery.
    """
    side = model_layer(snapshot, text)
    if "@" in (text or ""):
        return side
    there = [one.side for one in snapshot.tables if (one.space, one.model) == (space, side.model)]
    wanted = ModelLayer(
        side.model, layer_sets.number_of(snapshot.models[side.model].default_layers)
    )
    return next((one for one in (wanted, side) if one in there), (sorted(there) or [side])[0])


def own_layer(snapshot: Snapshot, side: ModelLayer) -> ModelLayer:
    """The one layer by which a side is scored: of a set of layers the model's default one."""
    return side if len(side.layers) == 1 else model_layer(snapshot, side.model)


def default_set(snapshot: Snapshot, name: str) -> ModelLayer:
    """What a new space takes of a model by default: its default layers where all are stored.

    Raises: ModelNotFound, LayerNotFound.
    """
    side = model_layer(snapshot, name)
    stored = {one.layer for one in snapshot.tables if (one.space, one.model) == (None, side.model)}
    layers = snapshot.models[side.model].default_layers
    return ModelLayer(side.model, layer_sets.number_of(layers)) if {*layers} <= stored else side


def vector_table(
    snapshot: Snapshot, side: ModelLayer, level: Level, space: str | None = None
) -> VectorTable:
    """The table of a model's embeddings or, in a space, of its coordinates.

    Raises: LayerNotFound, AnchorsNotFound.
    """
    for table in snapshot.tables:
        if (table.space, table.model, table.layer, table.level) == (space, *side, level):
            return table
    if space is None and len(side.layers) > 1:
        raise LayerNotFound(
            f"{side} is a set of layers, which has coordinates in a space and no embeddings",
            f"name one of the layers, as in {side.layers[0]}",
        )
    if space is None:
        raise LayerNotFound(
            f"the store has no layer {side.layer} of {side.model}",
            Call("ingest", models=[side.model], layers=str(side.layer)),
        )
    raise _not_projected(space, side)


def space(snapshot: Snapshot, name: str | None, models: list[str]) -> str:
    """The newest space, of that id or recipe if named, into which all models are projected.

    One that only some models agreed on is found by its name alone.

    Raises: AnchorsNotFound.
    """
    for id_, recipe, projected in snapshot.spaces:
        is_asked = name in (id_, recipe) if name is not None else recipe != ALONE
        if is_asked and set(models) <= set(projected):
            return id_
    known = ", ".join(id_ for id_, *_ in snapshot.spaces) or "none"
    mends = [Call("select_anchors"), Call("project")]
    if name == ALONE:
        mends = [Call("project", models=models, recipe=ALONE)]
    holds = f" holds {' and '.join(models)}" if models else ""
    raise AnchorsNotFound(
        f"no shared space{f' {name}' if name else ''}{holds} (spaces here: {known})", *mends
    )


def projection(snapshot: Snapshot, space: str, side: ModelLayer) -> Projection:
    """What turns a model's embeddings into coordinates of a space. Raises: AnchorsNotFound."""
    content = parameters(snapshot, projection_name(space, side))
    if content is None:
        raise _not_projected(space, side)
    return Projection.from_bytes(content)


def projection_name(space: str, side: ModelLayer) -> str:
    """The name of a projection's `parameters`."""
    return f"projection/{space}/{side}"


def calibration_name(reference: str) -> str:
    """The name of the `parameters` that calibrate a reference."""
    return f"calibration/{reference}"


def reference_names(reference: str) -> list[str]:
    """The names of the `parameters` that a reference compares with: structures, and atoms."""
    return [f"reference/{reference}/{level}" for level in ("structures", "atoms")]


def cover_name(side: ModelLayer) -> str:
    """The name of the `parameters` that say what a layer of a thinned store was made from."""
    return f"cover/{side}"


def parameters(snapshot: Snapshot, name: str) -> bytes | None:
    """What was fitted and kept under a name."""
    rows = snapshot.rows("SELECT content FROM fitted WHERE name = ?", [name])
    return rows[0][0] if rows else None


def layout(snapshot: Snapshot, level: Level = "atom") -> Layout:
    """The layout of the map, in which `geometry.layout.place` places coordinates of `map_space`.

    Raises: MapNotFound.
    """
    content = parameters(snapshot, f"layout/{level}")
    if content is None:
        raise _no_map()
    files = snapshot.row_files
    return _read_layout(level, content, tuple(files["layout_points"]), tuple(files[bulk.DELETED]))


@lru_cache(maxsize=4)  # some 20 MB each
def _read_layout(
    level: Level, content: bytes, paths: tuple[str, ...], deleted: tuple[str, ...]
) -> Layout:
    rows = bulk.select("layout_points", paths, deleted)
    ordered = f"FROM ({rows}) WHERE level = ? ORDER BY structure_id, site_index"
    with duckdb.connect() as connection:
        points = connection.execute(ordered, [level]).to_arrow_table()
    rows = points["point"].combine_chunks()
    matrix = np.asarray(rows.flatten()).reshape(len(rows), -1)
    return Layout.from_bytes(content, matrix, np.column_stack([points["x"], points["y"]]))


def map_space(snapshot: Snapshot) -> str:
    """The space whose coordinates the map shows. Raises: MapNotFound."""
    rows = snapshot.rows("SELECT space FROM catalog.main.layouts WHERE level = 'atom'")
    if not rows:
        raise _no_map()
    return str(rows[0][0])


def _no_map() -> MapNotFound:
    return MapNotFound("the store has no map yet", Call("map"))


def _not_projected(space: str, side: ModelLayer) -> AnchorsNotFound:
    return AnchorsNotFound(
        f"{side} is not projected into {space}",
        Call("project", models=[str(side)]),
    )


def require_structure(snapshot: Snapshot, structure_id: str) -> None:
    """Raises: StructureNotFound, naming ids that look alike."""
    if not snapshot.has_structure(structure_id):
        raise no_structure(snapshot, structure_id)


def no_structure(snapshot: Snapshot, structure_id: str) -> StructureNotFound:
    """The error for an id that is not in the store, naming ids that look alike."""
    whole, _, site = structure_id.rpartition(":")
    if site.isdecimal() and snapshot.has_structure(whole):
        return StructureNotFound(
            f"no structure {structure_id!r} in the store; an atom of {whole} is named by its site",
            Call("similar", whole, site=int(site)),
        )
    alike = snapshot.rows(
        "SELECT id FROM catalog.main.structures "
        "ORDER BY jaro_winkler_similarity(lower(id), lower(?)) DESC, id LIMIT 3",
        [structure_id],
    )
    names = ", ".join(row[0] for row in alike)
    is_path = "/" in structure_id or "\\" in structure_id
    return StructureNotFound(
        f"{'no file and ' if is_path else ''}no structure {structure_id!r} in the store"
        + (f"; the closest ids are {names}" if names else " (it is empty)"),
        Call("sql", "SELECT structure_id, formula FROM structure"),
    )


def matching(
    snapshot: Snapshot, condition: str, level: Level, among: Iterable[str] | None = None
) -> "pd.DataFrame":
    """Keys of the structures or sites for which a user's SQL condition holds.

    among: of these structures alone.

    Raises: InvalidQuery with what DuckDB says of the condition.
    """
    if level == "structure":
        sql = f"SELECT structure_id FROM structure WHERE ({condition}\n)"
    else:
        sql = (
            "SELECT structure_id, site_index FROM site JOIN structure USING (structure_id) "
            f"WHERE ({condition}\n)"
        )
    if among is not None:
        sql += f" AND structure_id IN ({literals(among) or 'NULL'})"
    require_condition(snapshot.cursor(""), condition)
    try:
        return snapshot.frame(sql)
    except duckdb.Error as error:
        raise InvalidQuery(
            f"the condition {condition!r} is not understood: {one_line(error)}",
            Call("sql", f"DESCRIBE {level if level == 'structure' else 'site'}"),
        ) from None
