"""VASP's POSCAR and CONTCAR, through ASE."""

from collections.abc import Iterator
from pathlib import Path

from platonic_store.structures import objects
from platonic_store.structures.files import open_text
from platonic_store.structures.quiet import quiet
from platonic_store.structures.records import Crystal, Rejected, one_line


def records(path: Path, stem: str | None = None) -> Iterator[Crystal | Rejected]:
    """The one crystal of the file, named `stem` (None: by its content).

    A VASP 4 file, without a line of symbols, is read where its comment line names the elements,
    and else rejected: the species are never guessed.
    """
    from ase.io.vasp import read_vasp

    try:
        with open_text(path) as file, quiet():
            atoms = read_vasp(file)
        yield objects.from_ase(atoms, stem)
    except EOFError:
        raise
    except Exception as error:
        yield Rejected(path.name, stem, f"not a POSCAR: {one_line(error)}")
