"""pymatgen JSON: columns under "platonic" among each entry's own properties."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from platonic_store.annotation.targets import PREFIX, Answer, Columns, Key, Record, files

PLACE = "platonic"


class Target:
    """A Structure, ComputedStructureEntry or document that holds one, a list or a dict of them.

    They are read whole, as JSON is.
    """

    def __init__(self, path: Path, out: Path, id: str | None, by_id: bool):
        self.name, self.path, self.out = path.name, path, out
        self.id, self.by_id = id, by_id

    def records(self) -> Iterator[Record]:
        return files.structure_records(self.path, "pymatgen_json", self.id, self.by_id)

    def done(self, run: str) -> frozenset[Key]:
        return frozenset()

    def write(
        self, keys: Sequence[Key], columns: Columns, answer: Answer, provenance: dict[str, Any]
    ) -> None:
        from platonic_store.structures.files import read_json
        from platonic_store.structures.pymatgen_json import entries

        document = read_json(self.path)
        found = [entry for _, entry in entries(document)]
        for entry, answers in zip(found, answer(keys), strict=True):
            if isinstance(entry, dict):  # what else stands in a list holds no structure
                _place(entry)[PLACE] = {
                    name.removeprefix(PREFIX): value
                    for name, value in answers.items()
                    if value is not None
                }
        with (
            files.replacing(self.out) as partial,
            files.text_to(partial, self.out) as file,
        ):
            json.dump(document, file)
        files.write_provenance(self.out, provenance)


def _place(entry: dict[str, Any]) -> dict[str, Any]:
    """Where pymatgen keeps an entry's properties: `data`, `properties`, or the document."""
    if "ComputedStructureEntry" in str(entry.get("@class")):
        field = "data"
    elif "structure" not in entry:
        field = "properties"
    else:
        return entry
    if entry.get(field) is None:
        entry[field] = {}
    place: dict[str, Any] = entry[field]
    return place
