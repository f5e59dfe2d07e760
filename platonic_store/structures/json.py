"""A .json file: OPTIMADE or pymatgen, whichever its content is."""

from collections.abc import Iterator
from pathlib import Path

from platonic_store.structures import optimade, pymatgen_json
from platonic_store.structures.files import read_json
from platonic_store.structures.records import Crystal, Rejected


def records(path: Path, stem: str | None = None) -> Iterator[Crystal | Rejected]:
    """The structures of the file, read as OPTIMADE if it is that, else as pymatgen's."""
    document = read_json(path)
    reader = optimade if optimade.is_optimade(document) else pymatgen_json
    yield from reader.crystals(document, stem)
