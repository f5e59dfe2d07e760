"""What every reader yields, and the one Arrow schema that everything after it uses."""

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from platonic_store.structures.quiet import quiet

if TYPE_CHECKING:
    from pymatgen.core.composition import Composition

STRUCTURE_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("content_hash", pa.string()),
        ("formula", pa.string()),
        ("elements", pa.list_(pa.string())),
        ("nsites", pa.int32()),
        ("distinct_sites", pa.int32()),
        ("numbers", pa.list_(pa.int16())),
        ("positions", pa.list_(pa.float64())),
        ("cell", pa.list_(pa.float64(), 9)),
        ("pbc", pa.list_(pa.bool_(), 3)),
        ("volume", pa.float64()),
        ("spacegroup", pa.int16()),
        ("orbits", pa.list_(pa.int32())),
    ]
)

ID_NAMES = ("material_id", "structure_id", "mp_id", "id", "identifier", "immutable_id")


class Crystal(NamedTuple):
    """A structure as read, before a store has it; atoms are neither wrapped nor reordered.

    A "structure" is what a store holds: a row of STRUCTURE_SCHEMA, made of a Crystal.

    id: the source's own identifier, or None (the content hash then becomes the structure's id).
    numbers: (N,) int16 atomic numbers. positions: (N, 3) float64, Cartesian Å.
    cell: (3, 3) float64, Å, rows are lattice vectors. pbc: (3,) bool.
    properties: every other column or property of the source, by its own name.
    """

    id: str | None
    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    properties: dict[str, Any]


class Rejected(NamedTuple):
    """A record that cannot be used: its place in the source, its id if any, and why (one line)."""

    record: str
    id: str | None
    reason: str


class StructureBatch(NamedTuple):
    """Structures (STRUCTURE_SCHEMA), their properties (same rows), and the rejected records.

    properties: "id", then one int64, double, bool or string column for each property that has a
    value in this batch. The type is that of this batch alone: the next may widen it.
    """

    structures: pa.RecordBatch
    properties: pa.RecordBatch
    rejected: list[Rejected]


def crystal(
    id: str | None, numbers: Any, positions: Any, cell: Any, pbc: Any, properties: dict[str, Any]
) -> Crystal:
    """A Crystal from anything array-like. Raises ValueError where the shapes do not fit."""
    species = np.asarray(numbers, dtype=np.int16).reshape(-1)
    coordinates = np.asarray(positions, dtype=np.float64).reshape(-1, 3)
    if len(species) != len(coordinates):
        raise ValueError(f"{len(species)} species for {len(coordinates)} positions")
    vectors = np.asarray(cell, dtype=np.float64).reshape(3, 3)
    periodic = np.asarray(pbc, dtype=bool).reshape(3)
    return Crystal(id, species, coordinates, vectors, periodic, properties)


def content_hash(crystal: Crystal) -> str:
    """The first 32 hex digits of the SHA-256 of the crystal's content.

    Hashed, in this order and each as little-endian int64: numbers (N), pbc (3, as 0 or 1), cell
    (9, row-major) and positions (3N, row-major), the last two in units of 1e-5 Å, rounded half to
    even. Order of atoms, origin and orientation count: equivalent crystals may differ in it.
    """
    lengths = np.concatenate([crystal.cell.ravel(), crystal.positions.ravel()])
    parts = [crystal.numbers, crystal.pbc, np.rint(lengths * 1e5)]
    return hashlib.sha256(b"".join(part.astype("<i8").tobytes() for part in parts)).hexdigest()[:32]


@quiet()
def reduced_formula(composition: "Composition") -> str:
    """pymatgen's reduced formula, without its warning that a noble gas has no electronegativity.

    pymatgen orders the elements by electronegativity; those that have none come last.
    """
    return composition.reduced_formula


def pick_id(properties: dict[str, Any], *more: str) -> str | None:
    """The first of ID_NAMES, then of `more`, that has a value; as a string."""
    for name in (*ID_NAMES, *more):
        value = properties.get(name)
        if value is not None and value == value and str(value).strip():
            return str(value)
    return None


def one_line(error: BaseException, limit: int = 200) -> str:
    """An error's message on one line, with its kind where it has no message."""
    return " ".join(str(error).split())[:limit] or type(error).__name__
