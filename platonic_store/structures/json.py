"""A .json file: OPTIMADE, pymatgen or training frames, whichever its content is."""

from collections.abc import Iterator
from pathlib import Path

from platonic_store.structures import frames, optimade, pymatgen_json
from platonic_store.structures.files import read_json
from platonic_store.structures.records import Crystal, Rejected


def records(path: Path, stem: str | None = None) -> Iterator[Crystal | Rejected]:
    """The structures of the file, read as frames or OPTIMADE if it is that, else as pymatgen's."""
    if frames.is_frames(path):
        yield from frames.records(path, stem)
        return
    document = read_json(path)
    reader = optimade if optimade.is_optimade(document) else pymatgen_json
    yield from reader.crystals(document, stem)
