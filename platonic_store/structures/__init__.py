"""Readers of crystal structures: many file formats in, one Arrow schema out.

One module a format; each has `records(path, stem)`, a generator of Crystal and Rejected. `read`
finds the reader, checks every crystal, adds symmetry and hash, and batches. A `Crystal` is what a
reader yields; a structure is what a store holds, a row of STRUCTURE_SCHEMA.
"""

from platonic_store.structures.records import (
    STRUCTURE_SCHEMA,
    Crystal,
    Rejected,
    StructureBatch,
    content_hash,
)
from platonic_store.structures.sources import BUILTIN, FORMATS, describe, read

__all__ = [
    "BUILTIN",
    "FORMATS",
    "STRUCTURE_SCHEMA",
    "Crystal",
    "Rejected",
    "StructureBatch",
    "content_hash",
    "describe",
    "read",
]
