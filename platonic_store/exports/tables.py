"""What several formats hold: all that is known, a row a structure or a distinct atom."""

from collections.abc import Sequence

import pandas as pd

from platonic_store.errors import Call, MapNotFound
from platonic_store.jobs.map import CONSENSUS
from platonic_store.storage import lookup
from platonic_store.storage.layout import PRIMARY_KEY, Level
from platonic_store.storage.snapshot import ModelLayer, Snapshot

_SCORES: dict[Level, str] = {"structure": "typicality", "atom": "atom_typicality"}
_DISAGREEMENT: dict[Level, str] = {
    "structure": "SELECT structure_id, disagreement FROM disagreement",
    "atom": "SELECT structure_id, site_index, 1 - avg(agreement) AS disagreement "
    "FROM atom_agreement GROUP BY ALL",
}
_KNOWN: dict[Level, str] = {
    # The list of elements as text, which every tool can show and filter by.
    "structure": "SELECT structure_id, list_aggregate(elements, 'string_agg', '-') "
    "AS chemical_system, * EXCLUDE (structure_id, elements) FROM structure",
    "atom": "SELECT structure_id, site_index, element, multiplicity, formula FROM site "
    "JOIN catalog.main.structures ON id = structure_id WHERE site_index = orbit",
}


def on_the_map(snapshot: Snapshot, models: Sequence[str]) -> list[ModelLayer]:
    """The models of those names, or all but the controls, that are on the map.

    Raises: ModelNotFound, LayerNotFound; MapNotFound if one is not on it.
    """
    rows = snapshot.rows(
        "SELECT DISTINCT model, layer FROM structure_map WHERE model != ? ORDER BY ALL", [CONSENSUS]
    )
    mapped = [ModelLayer(*row) for row in rows]
    trained = snapshot.trained_models
    if not mapped:
        raise MapNotFound("the store has no map yet", Call("map"))
    space = lookup.map_space(snapshot)
    sides = [lookup.side_in(snapshot, space, name) for name in models]
    sides = sides or [side for side in mapped if side.model in trained] or mapped
    for side in sides:
        if side not in mapped:
            raise MapNotFound(f"{side} is not on the map", Call("project"), Call("map"))
    return sides


def table(snapshot: Snapshot, level: Level, sides: Sequence[ModelLayer]) -> pd.DataFrame:
    """All that is on the map of the consensus, sorted by its keys.

    Keys, what is known of it, `x` and `y`, then of each model `MODEL@LAYER x`, `MODEL@LAYER y` and,
    where it is scored, `MODEL@LAYER p`; `disagreement` where several models are. Scores of a set of
    layers are those of the model's default layer.
    """
    keys, places = PRIMARY_KEY[level], f"{level}_map"
    order = ", ".join(keys)
    rows = snapshot.frame(
        f"SELECT known.*, m.x, m.y FROM ({_KNOWN[level]}) AS known "
        f"JOIN {places} AS m USING ({order}) WHERE m.model = ? ORDER BY {order}",
        [CONSENSUS],
    )
    for side in sides:
        own = lookup.own_layer(snapshot, side)
        for view, columns, one in (
            (places, ("x", "y"), side),
            (_SCORES[level], ("p",), own),
        ):
            names = ", ".join(f'{column} AS "{side} {column}"' for column in columns)
            found = snapshot.frame(
                f"SELECT {order}, {names} FROM {view} WHERE model = ? AND layer = ?", [*one]
            )
            if len(found):
                rows = rows.merge(found, on=keys, how="left", sort=False)
    differing = snapshot.frame(_DISAGREEMENT[level])
    return rows.merge(differing, on=keys, how="left", sort=False) if len(differing) else rows
