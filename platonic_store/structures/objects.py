"""Python objects: pymatgen structures and entries, ASE atoms, and Crystals themselves."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from platonic_store.structures.quiet import quiet
from platonic_store.structures.records import Crystal, Rejected, crystal, one_line, pick_id

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure
    from pymatgen.entries.computed_entries import ComputedStructureEntry


def records(source: Any) -> Iterator[Crystal | Rejected]:
    """Crystals from one object, an iterable of objects or of (id, object), or a dict id -> object.

    An object is a pymatgen Structure or ComputedStructureEntry, an ASE Atoms, or a Crystal. One
    that is none of these, or that cannot be used, is rejected.
    """
    for number, (id, item) in enumerate(_named(source), 1):
        try:
            found = convert(item, id)
            yield found
        except Exception as error:
            yield Rejected(f"object {number}" + (f" ({id})" if id else ""), id, one_line(error))


def _named(source: Any) -> Iterator[tuple[str | None, Any]]:
    if _single(source) or not isinstance(source, Iterable):
        yield None, source
    elif isinstance(source, Mapping):
        yield from ((str(id), item) for id, item in source.items())
    else:
        for item in source:
            pair = isinstance(item, tuple) and len(item) == 2 and not isinstance(item, Crystal)
            yield (str(item[0]), item[1]) if pair else (None, item)


def _single(source: Any) -> bool:
    known = hasattr(source, "lattice") or hasattr(source, "structure")
    return known or isinstance(source, Crystal) or hasattr(source, "get_atomic_numbers")


def convert(item: Any, id: str | None = None) -> Crystal:
    """One Crystal from one object.

    Raises TypeError for an unknown kind of object, ValueError for disorder.
    """
    if isinstance(item, Crystal):
        given = crystal(*item)
        return given._replace(id=id) if id else given
    if hasattr(item, "get_atomic_numbers"):
        return from_ase(item, id)
    if hasattr(item, "structure"):
        return from_entry(item, id)
    if hasattr(item, "lattice"):
        return from_pymatgen(item, id)
    raise TypeError(
        f"{type(item).__name__} is none of pymatgen Structure, ComputedStructureEntry, ASE Atoms, "
        "Crystal"
    )


@quiet()
def structure_from_dict(document: dict[str, Any]) -> "Structure":
    """A pymatgen Structure from its dict."""
    from pymatgen.core.structure import Structure

    return Structure.from_dict(document)


@quiet()
def entry_from_dict(document: dict[str, Any]) -> "ComputedStructureEntry":
    """A pymatgen ComputedStructureEntry from its dict."""
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    return ComputedStructureEntry.from_dict(document)


def from_ase(atoms: Any, id: str | None = None) -> Crystal:
    """ASE Atoms: `info`, results of its calculator (eV, Å) and extra arrays become properties.

    The id is `id`, else that which `info` names. Raises ValueError for partial occupancy, which
    ASE notes in `info["occupancy"]` alone.
    """
    for shares in atoms.info.get("occupancy", {}).values():
        for symbol, share in shares.items():
            if abs(share - 1) > 1e-3:
                raise ValueError(f"disordered: site {symbol} has occupancy {share:.2f}")
    properties = dict(atoms.info)
    if atoms.calc is not None:
        results = getattr(atoms.calc, "results", {})
        properties.update({name: value for name, value in results.items() if value is not None})
    for name, values in atoms.arrays.items():
        if name not in ("numbers", "positions"):
            properties.setdefault(name, values)
    id = id or pick_id(properties)
    return crystal(id, atoms.numbers, atoms.positions, atoms.cell[:], atoms.pbc, properties)


def from_pymatgen(structure: Any, id: str | None = None) -> Crystal:
    """A pymatgen Structure: its `properties` and site properties become properties.

    Raises ValueError for partial occupancy and for dummy species.
    """
    numbers = []
    for index, site in enumerate(structure):
        occupancies = [float(share) for share in site.species.values()]
        if len(occupancies) != 1 or abs(occupancies[0] - 1) > 1e-3:
            share = min(occupancies, default=0.0)
            name = site.species.elements[0].symbol if occupancies else "empty"
            raise ValueError(f"disordered: site {name}{index} has occupancy {share:.2f}")
        species = site.species.elements[0]
        if "Dummy" in type(species).__name__:
            raise ValueError(f"unknown element {species.symbol!r} at site {index}")
        numbers.append(species.Z)
    properties = {**structure.site_properties, **(structure.properties or {})}
    id = id or pick_id(properties)
    lattice = structure.lattice
    return crystal(id, numbers, structure.cart_coords, lattice.matrix, lattice.pbc, properties)


def from_entry(entry: Any, id: str | None = None) -> Crystal:
    """A pymatgen ComputedStructureEntry: energy (eV, corrected), entry_id, data, parameters."""
    properties = {
        "energy": entry.energy,
        "correction": entry.correction,
        "entry_id": entry.entry_id,
        **(entry.parameters or {}),
        **(entry.data or {}),
    }
    entry_id = str(entry.entry_id) if entry.entry_id is not None else None
    found = from_pymatgen(entry.structure, id or entry_id or pick_id(properties))
    return found._replace(properties={**found.properties, **properties})
