"""JSON for chemiscope: crystals, environments, properties, and the maps of models as properties.

The format is that of https://chemiscope.org/docs/manual/input-reference.html. It shows one map at
a time: the axes choose of which model.
"""

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ase.data import chemical_symbols

from platonic_store.exports.tables import on_the_map, table
from platonic_store.storage.layout import Level
from platonic_store.storage.snapshot import ModelLayer, Snapshot

_LEFT_OUT = ("content_hash", "added_at", "site_index")
_DESCRIPTION = (
    "Exported by platonic-store. Each map is where one model sees the structures, or the atoms, "
    "in a layout that all models share; choose another model's by the axes. Near is alike; how far "
    "apart what is not near lies says nothing. p is typicality, which is not confidence."
)


def write(snapshot: Snapshot, path: Path, models: Sequence[str]) -> None:
    """Write all structures on the map, their distinct atoms as environments."""
    sides = on_the_map(snapshot, models)
    structures, atoms = (table(snapshot, level, sides) for level in ("structure", "atom"))
    ids = structures["structure_id"]
    atoms = atoms[atoms["structure_id"].isin(ids)]
    document = {
        "meta": {"name": f"snapshot {snapshot.id}", "description": _DESCRIPTION},
        "structures": list(_structures(snapshot, ids)),
        "environments": _environments(atoms, ids, _cutoff(snapshot, sides[0])),
        "properties": _properties(structures, "structure") | _properties(atoms, "atom"),
        "settings": _settings(sides[0]),
    }
    # Chemiscope reads a bare NaN, and by its pattern also the formula of sodium nitride.
    text = json.dumps(document).replace('"NaN"', '"\\u004eaN"')
    with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w") as file:
        file.write(text)


def _structures(snapshot: Snapshot, ids: pd.Series) -> Iterator[dict[str, Any]]:
    rows = snapshot.execute(
        "SELECT structure_id, numbers, positions, cell FROM crystals ORDER BY structure_id"
    )
    wanted = set(ids)
    for batch in rows.to_arrow_reader(4_096):
        for row in batch.to_pylist():
            if row["structure_id"] in wanted:
                x, y, z = np.reshape(row["positions"], (-1, 3)).T.round(6).tolist()
                yield {
                    "size": len(x),
                    "names": [chemical_symbols[number] for number in row["numbers"]],
                    "x": x,
                    "y": y,
                    "z": z,
                    "cell": np.round(row["cell"], 6).tolist(),
                }


def _environments(atoms: pd.DataFrame, ids: pd.Series, cutoff: float) -> list[dict[str, Any]]:
    places = pd.Index(ids).get_indexer(pd.Index(atoms["structure_id"])).tolist()
    centres = atoms["site_index"].tolist()
    return [
        {"structure": structure, "center": centre, "cutoff": cutoff}
        for structure, centre in zip(places, centres, strict=True)
    ]


def _cutoff(snapshot: Snapshot, side: ModelLayer) -> float:
    """How far the model sees in one layer, in Å."""
    ((cutoff,),) = snapshot.rows(
        "SELECT (card->>'cutoff')::DOUBLE FROM catalog.main.models WHERE name = ?", [side.model]
    )
    return float(cutoff or 5.0)


def _properties(rows: pd.DataFrame, level: Level) -> dict[str, Any]:
    """Columns as numbers or text, those of atoms named `atom …`: no name may stand for two."""
    found = {}
    for name, column in rows.items():
        if name in _LEFT_OUT:
            continue
        values: list[Any]
        if pd.api.types.is_numeric_dtype(column):
            values = column.astype(float).round(6).tolist()
        else:
            values = column.astype(object).where(column.notna(), "").astype(str).tolist()
        found[f"atom {name}" if level == "atom" else str(name)] = {
            "target": level,
            "values": values,
        }
    return found


def _settings(side: ModelLayer) -> dict[str, Any]:
    """The first model's map of structures."""
    axes = {axis: {"property": f"{side} {axis}"} for axis in ("x", "y")}
    return {"target": "structure", "map": axes, "structure": [{"unitCell": True}]}
