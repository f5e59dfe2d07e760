"""OPTIMADE JSON: a response, a list of resources, or one resource."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from platonic_store.structures.files import read_json
from platonic_store.structures.records import Crystal, Rejected, crystal, one_line

USED = ("lattice_vectors", "cartesian_site_positions", "species_at_sites", "dimension_types")


def records(path: Path, stem: str | None = None) -> Iterator[Crystal | Rejected]:
    """The structures of an OPTIMADE JSON file."""
    yield from crystals(read_json(path), stem)


def is_optimade(document: Any) -> bool:
    """Whether the first resource is of type `structures`, or has `species_at_sites`."""
    found = _resources(document)
    if not found or not isinstance(found[0], dict):
        return False
    attributes = found[0].get("attributes", found[0])
    return found[0].get("type") == "structures" or "species_at_sites" in (attributes or {})


def _resources(document: Any) -> list[Any]:
    if isinstance(document, dict) and "data" in document:
        document = document["data"]
    return document if isinstance(document, list) else [document]


def crystals(document: Any, stem: str | None = None) -> Iterator[Crystal | Rejected]:
    """The structures of a parsed OPTIMADE document, named by their OPTIMADE id.

    Every other attribute, those with a provider's prefix too, is a property. Vacancies, mixed
    sites and unknown positions are rejected.
    """
    for number, resource in enumerate(_resources(document), 1):
        id = None
        try:
            id = str(resource["id"]) if resource.get("id") is not None else None
            yield _crystal(resource.get("attributes", resource), id)
        except KeyError as error:
            yield Rejected(_label(number, id), id, f"the attribute {error} is missing")
        except Exception as error:
            yield Rejected(_label(number, id), id, one_line(error))


def _label(number: int, id: str | None) -> str:
    return f"entry {number} ({id})" if id else f"entry {number}"


def _crystal(attributes: dict[str, Any], id: str | None) -> Crystal:
    from pymatgen.core.periodic_table import Element

    names = attributes["species_at_sites"]
    symbols = _symbols(attributes.get("species") or [])
    numbers = [Element(symbols.get(name, name)).Z for name in names]
    pbc = attributes.get("dimension_types") or [1, 1, 1]
    rows = attributes.get("lattice_vectors") or [[None] * 3] * 3
    cell = [[0.0 if x is None else x for x in row] if row else [0.0] * 3 for row in rows]
    properties = {name: value for name, value in attributes.items() if name not in USED}
    return crystal(id, numbers, attributes["cartesian_site_positions"], cell, pbc, properties)


def _symbols(species: list[dict[str, Any]]) -> dict[str, str]:
    """Species name -> element. Raises ValueError for a species that is not one whole element."""
    symbols: dict[str, str] = {}
    for kind in species:
        elements, shares = kind["chemical_symbols"], kind["concentration"]
        if len(elements) != 1 or abs(shares[0] - 1) > 1e-3 or elements[0] == "vacancy":
            raise ValueError(f"disordered: site {kind['name']} has occupancy {min(shares):.2f}")
        symbols[kind["name"]] = elements[0]
    return symbols
