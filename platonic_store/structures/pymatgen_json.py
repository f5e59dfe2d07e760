"""pymatgen JSON: structures, computed entries and documents that hold them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from platonic_store.structures import objects
from platonic_store.structures.files import read_json
from platonic_store.structures.records import ID_NAMES, Crystal, Rejected, one_line, pick_id


def records(path: Path, stem: str | None = None) -> Iterator[Crystal | Rejected]:
    """The structures of a pymatgen JSON file."""
    yield from crystals(read_json(path), stem)


def crystals(document: Any, stem: str | None = None) -> Iterator[Crystal | Rejected]:
    """The structures of a parsed document: one, a list, or a dict id -> structure.

    A structure is the dict of a Structure, of a ComputedStructureEntry, or of anything that has
    one under "structure" (a document of the Materials Project's API), whose other fields become
    properties. The only structure of a file without an id of its own is named `stem`.
    """
    for number, (id, item) in enumerate(entries(document, stem), 1):
        label = f"entry {number}" + (f" ({id})" if id else "")
        try:
            yield _crystal(item, id)
        except Exception as error:
            yield Rejected(label, id, one_line(error))


def entries(document: Any, stem: str | None = None) -> Iterator[tuple[str | None, Any]]:
    """The entries of a document in their order, each with the name that the document gives it."""
    if isinstance(document, list):
        yield from ((None, item) for item in document)
    elif isinstance(document, dict) and not _holds_structure(document):
        yield from ((str(id), item) for id, item in document.items())
    else:
        own = isinstance(document, dict) and pick_id(document, "entry_id")
        yield own or stem, document


def _holds_structure(item: Any) -> bool:
    return isinstance(item, dict) and ("structure" in item or {"lattice", "sites"} <= item.keys())


def _crystal(item: Any, id: str | None) -> Crystal:
    if not _holds_structure(item):
        raise ValueError("no structure: neither 'structure' nor 'lattice' and 'sites' in it")
    if "structure" not in item:
        own = {name: item[name] for name in ID_NAMES if name in item}
        found = objects.from_pymatgen(objects.structure_from_dict(item), id or pick_id(own))
        return found._replace(properties={**found.properties, **own})
    if "ComputedStructureEntry" in str(item.get("@class")):
        return objects.from_entry(objects.entry_from_dict(item), id)
    rest = {name: value for name, value in item.items() if name[0] != "@" and name != "structure"}
    structure = objects.structure_from_dict(item["structure"])
    found = objects.from_pymatgen(structure, id or pick_id(rest, "entry_id"))
    return found._replace(properties={**found.properties, **rest})
