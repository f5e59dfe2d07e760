"""(Extended) XYZ, plain or gzipped, frame by frame, through ASE."""

from collections.abc import Iterator
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import TextIO

from platonic_store.structures import objects
from platonic_store.structures.files import open_text
from platonic_store.structures.quiet import quiet
from platonic_store.structures.records import Crystal, Rejected, one_line, pick_id


def records(path: Path, stem: str | None = None) -> Iterator[Crystal | Rejected]:
    """The frames of the file, each as one crystal; a frame without a Lattice is a molecule.

    Everything in the comment line is a property, and so are a calculator's results: energy (eV)
    as a number; forces (eV/Å), stress (eV/Å³) and all other arrays, per atom or not, as JSON
    text. Named by the usual id keys or mptrj_snapshot_id, else by content. Raises EOFError where
    the file ends within a frame.
    """
    from ase.io import read

    with open_text(path) as file:
        for number, text in enumerate(_frames(file), 1):
            try:
                with quiet():
                    atoms = read(StringIO(text), format="extxyz")
                frame = objects.from_ase(atoms)
                yield frame._replace(id=pick_id(frame.properties, "mptrj_snapshot_id"))
            except Exception as error:
                yield Rejected(f"frame {number}", None, one_line(error))


def _frames(file: TextIO) -> Iterator[str]:
    """The text of each frame. Raises ValueError where the count of atoms is not a number."""
    while line := file.readline():
        if not line.strip():
            continue
        count = int(line)
        body = list(islice(file, count + 1))
        if len(body) < count + 1:
            raise EOFError(f"a frame of {count} atoms ends after {max(len(body) - 1, 0)}")
        yield line + "".join(body)
