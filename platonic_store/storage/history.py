"""The snapshots that are kept, and those of them that are pinned."""

import json
from pathlib import Path
from typing import Final

import pandas as pd

from platonic_store.errors import Call, SnapshotNotFound
from platonic_store.storage import manifest
from platonic_store.storage.location import Location

_PINS: Final = "pins"


def snapshots(location: Location) -> pd.DataFrame:
    """The states of a store that are kept, the newest first; see `Store.snapshots`."""
    pins = pinned(location) if location.writable else {}
    rows = []
    for id in reversed(manifest.ids(location)):
        one = manifest.load(location, id)
        rows.append(
            {
                "snapshot": one.id,
                "created_at": pd.Timestamp(one.created_at).floor("s"),
                "change": one.change,
                "structures": one.structures,
                "vectors": sum(table.rows for table in one.vectors.values()),
                "MB": round(sum(file.size for file in one.files()) / 1e6, 1),
                "pinned": pins.get(one.id),
            }
        )
    return pd.DataFrame(rows)


def pin(location: Location, id: int, note: str = "") -> None:
    """Keep a snapshot for ever. Raises: SnapshotNotFound."""
    manifest.load(location, id)
    content = {"id": id, "note": note, "pinned_at": manifest.now()}
    location.write(_pin_key(id), json.dumps(content).encode())


def unpin(location: Location, id: int) -> None:
    """Let a snapshot go in its time. Raises: SnapshotNotFound if it is not pinned."""
    if not location.exists(_pin_key(id)):
        raise SnapshotNotFound(f"snapshot {id} is not pinned", Call("snapshots"))
    location.delete([_pin_key(id)])


def pinned(location: Location) -> dict[int, str]:
    """The notes of the snapshots that are kept for ever, by number."""
    notes = {}
    for entry in location.names(f"{_PINS}/"):
        stem = Path(entry.key).stem
        if stem.isdigit():
            notes[int(stem)] = str(json.loads(location.read(entry.key)).get("note", ""))
    return notes


def _pin_key(id: int) -> str:
    return f"{_PINS}/{id:08}.json"
