"""A .json file: OPTIMADE or pymatgen, whichever its content is."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from platonic_store.structures.records import Crystal, Rejected


def records(path: Path, stem: str | None = None) -> Iterator[Crystal | Rejected]:
    """The structures of the file, by the reader that knows its form."""
    from platonic_store.structures import optimade, pymatgen_json

    document = load(path)
    reader = optimade if optimade.recognises(document) else pymatgen_json
    yield from reader.crystals(document, stem)


def load(path: Path) -> Any:
    """The parsed document. Raises EOFError for a cut gzip, ValueError for what is not JSON."""
    content = path.read_bytes()
    return json.loads(gzip.decompress(content) if path.suffix.lower() == ".gz" else content)
