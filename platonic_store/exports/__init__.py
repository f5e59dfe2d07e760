"""A store as files of other tools, and as pages: a module a format."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from platonic_store.errors import InvalidQuery

if TYPE_CHECKING:
    from platonic_store.storage.snapshot import Snapshot

# By the end of a file's name: `module:function` of (snapshot, path, models).
FORMATS = {
    "chemiscope.json": "platonic_store.exports.chemiscope:write",
    "chemiscope.json.gz": "platonic_store.exports.chemiscope:write",
    "atlas.parquet": "platonic_store.exports.atlas:write_structures",
    "atlas-atoms.parquet": "platonic_store.exports.atlas:write_atoms",
    "optimade.jsonl": "platonic_store.exports.optimade:write",
    "optimade.jsonl.gz": "platonic_store.exports.optimade:write",
    "explorer.html": "platonic_store.explorer.static_page:write",
}


def write(snapshot: "Snapshot", path: Path, models: Sequence[str]) -> None:
    """Write a snapshot in the format that the end of the file's name says.

    models: MODEL or MODEL@LAYER each; none means all that are on the map and no control.

    Raises: InvalidQuery for a name of no format, and what the format raises.
    """
    for ending, function in FORMATS.items():
        if path.name.endswith(ending):
            module, _, name = function.partition(":")
            getattr(import_module(module), name)(snapshot, path, models)
            return
    raise InvalidQuery(
        f"{path.name} says no format to export", f"let its name end in {', '.join(FORMATS)}"
    )
