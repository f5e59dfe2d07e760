"""OPTIMADE JSON Lines: all structures in a file, which `optimake` and others serve or read.

A line each: the version, what the file is, what an OPTIMADE server would say of itself and of the
properties, then the structures. See the appendix of the specification, version 1.2.
"""

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from platonic_store.storage import lookup
from platonic_store.storage.snapshot import Snapshot

_PAGE: Final = 500


def write(snapshot: Snapshot, path: Path, models: Sequence[str]) -> None:
    """Write every structure with every property; compressed where the name ends in .gz.

    models: whose typicality is among the properties; none means all.

    Raises: ModelNotFound, LayerNotFound.
    """
    with (
        gzip.open(path, "wt", encoding="utf-8")
        if path.suffix == ".gz"
        else path.open("w", encoding="utf-8") as file
    ):
        for line in lines(snapshot, models):
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


def lines(snapshot: Snapshot, models: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What the lines hold, in order."""
    from platonic_store.service.optimade import answers
    from platonic_store.service.optimade.entries import available, entries
    from platonic_store.service.optimade.properties import properties

    wanted = {lookup.model_layer(snapshot, name).model for name in models}
    known = {
        name: one
        for name, one in properties(snapshot).items()
        if one.is_served and (not wanted or one.model is None or one.model in wanted)
    }
    yield {"x-optimade": {"api_version": answers.API_VERSION}}
    returned = available(snapshot)
    yield {"meta": answers.meta("/structures", returned=returned, snapshot=snapshot.id)}
    yield answers.base_info(None)
    yield answers.entry_info(known)
    ids = [id_ for (id_,) in snapshot.rows("SELECT id FROM catalog.main.structures ORDER BY id")]
    for start in range(0, len(ids), _PAGE):
        yield from entries(snapshot, ids[start : start + _PAGE], known.values())
