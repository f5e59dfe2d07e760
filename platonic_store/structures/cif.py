"""CIF, one block or many, plain or gzipped, through gemmi."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import gemmi
import numpy as np

from platonic_store.structures.files import open_text
from platonic_store.structures.records import Crystal, Rejected, crystal, one_line

FRACTIONS = ["_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z"]
FULL = 1e-3  # an occupancy this near to 1 is 1
SPECIAL = 0.2  # Å; far above the rounding of coordinates, far below any bond


def records(path: Path, stem: str | None = None) -> Iterator[Crystal | Rejected]:
    """The crystals of a CIF file, block by block.

    A file of one structure is named by `stem` (the file's name without suffix, as is the default);
    in a file of several each is named by its block. Blocks without a cell and without atoms (a
    journal's `data_global`) are skipped; a file of nothing else is rejected.
    """
    stem = stem or path.name.split(".cif")[0]
    described = (text for text in _blocks(path) if "_atom_site_" in text or "_cell_length_" in text)
    first = next(described, None)
    if first is None:
        yield Rejected(path.name, stem, "no atoms: the file has no _atom_site_ loop")
        return
    second = next(described, None)
    if second is None:
        yield _record(first, path.name, stem)
        return
    for text in chain((first, second), described):
        yield _record(text, path.name, _block_name(text))


def _block_name(text: str) -> str:
    return text.split(None, 1)[0][len("data_") :]


def _record(text: str, where: str, id: str | None) -> Crystal | Rejected:
    try:
        return parse(text, id)
    except Exception as error:
        return Rejected(f"{where}, data_{_block_name(text)}", id, one_line(error))


def _blocks(path: Path) -> Iterator[str]:
    """The text of each data block; `data_` inside a semicolon text field does not start one.

    gemmi reads a file whole or not at all: a syntax error in one block would lose the others.
    """
    lines: list[str] = []
    quoted = started = False
    with open_text(path) as file:
        for line in file:
            if not quoted and line[:5].lower() == "data_":
                if started:
                    yield "".join(lines)
                lines, started = [], True
            elif line.startswith(";"):
                quoted = not quoted
            if started:
                lines.append(line)
    if started:
        yield "".join(lines)


def parse(text: str, id: str | None = None, properties: dict[str, Any] | None = None) -> Crystal:
    """One ordered crystal, expanded to the full unit cell, from CIF text with one data block.

    Cartesian axes follow pymatgen's `Lattice.from_parameters`, so content hashes agree with
    structures that pymatgen reads from the same text. Deuterium becomes hydrogen. Raises
    ValueError, with the reason on one line, for anything that is not such a crystal.
    """
    from pymatgen.core.lattice import Lattice

    block = gemmi.cif.read_string(text).sole_block()
    if block.find_value("_cell_length_a") is None:
        raise ValueError("no unit cell: the block has no _cell_length_a")
    if len(block.find(FRACTIONS)) == 0:
        raise ValueError("no atoms with fractional coordinates")
    small = gemmi.make_small_structure_from_block(block)
    _refuse_disorder(small)
    fractions = np.array([site.fract.tolist() for site in small.sites])
    numbers = np.array([site.element.atomic_number for site in small.sites])
    for site in small.sites:
        if site.element.atomic_number == 0:
            raise ValueError(f"unknown element {site.type_symbol!r} at site {site.label}")
    matrix = Lattice.from_parameters(*small.cell.parameters).matrix
    sites, fractions = _expand(fractions, _operations(small), matrix)
    return crystal(id, numbers[sites], fractions @ matrix, matrix, [True] * 3, properties or {})


def _refuse_disorder(small: gemmi.SmallStructure) -> None:
    for site in small.sites:
        if not abs(site.occ - 1) <= FULL:
            raise ValueError(f"disordered: site {site.label} has occupancy {site.occ:.2f}")


def _operations(small: gemmi.SmallStructure) -> list[gemmi.Op]:
    """Symmetry operations as the block lists them, else those of the space group it names."""
    if small.symops:
        return [gemmi.Op(triplet) for triplet in small.symops]
    if small.spacegroup_hall:
        return list(gemmi.symops_from_hall(small.spacegroup_hall))
    group = small.spacegroup or gemmi.find_spacegroup_by_name(small.spacegroup_hm)
    if small.spacegroup_hm and group is None:
        raise ValueError(f"unknown space group {small.spacegroup_hm!r} and no operations listed")
    if group is None and small.spacegroup_number:
        group = gemmi.find_spacegroup_by_number(small.spacegroup_number)
    return list(group.operations()) if group else [gemmi.Op("x,y,z")]


def _expand(
    fractions: np.ndarray, operations: list[gemmi.Op], matrix: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Every image of every site, once: indices into the sites, and fractional coordinates.

    Images of one site within SPECIAL of each other are one atom, on a special position. gemmi's own
    expansion ignores listed operations that are not a complete group.
    """
    if len(operations) == 1:
        return np.arange(len(fractions)), fractions
    seitz = np.array([operation.float_seitz() for operation in operations])
    sites: list[int] = []
    kept: list[np.ndarray] = []
    for index, site in enumerate(fractions):
        images = seitz[:, :3, :3] @ site + seitz[:, :3, 3]
        difference = images[:, None] - images[None]
        apart = np.linalg.norm((difference - np.rint(difference)) @ matrix, axis=-1)
        earlier = np.tril(apart < SPECIAL, -1).any(axis=1)
        sites += [index] * int((~earlier).sum())
        kept.append(images[~earlier])
    return np.array(sites), np.concatenate(kept)
