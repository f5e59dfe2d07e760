"""The shape of the Lance tables: one per (model, layer, level), and per space where projected."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa

from platonic_store.geometry.neighbours import row_lengths
from platonic_store.storage.layer_sets import text_of

Level = Literal["atom", "structure"]

StoreDtype = Literal["float32", "float16"]

# Which row it is, in every table of a level.
PRIMARY_KEY: dict[Level, list[str]] = {
    "structure": ["structure_id"],
    "atom": ["structure_id", "site_index"],
}

HUB = "hub"

_KEYS = {
    "atom": [
        pa.field("structure_id", pa.string()),
        pa.field("site_index", pa.int32()),
        pa.field("atomic_number", pa.int16()),
        # The first of the site's symmetry-equivalent sites: it speaks for all of them.
        pa.field("orbit", pa.int32()),
        pa.field("chunk_id", pa.int64()),
    ],
    "structure": [
        pa.field("structure_id", pa.string()),
        pa.field("chunk_id", pa.int64()),
    ],
}


@dataclass(frozen=True, eq=False)
class Points:
    """The rows of a vector table, in memory.

    keys: the key columns as an Arrow table of n rows; vectors: (n, dim) float32; hubs: (n,) float32
    in a space that has them, see `geometry.hubs`.
    """

    keys: pa.Table
    vectors: np.ndarray
    hubs: np.ndarray | None = None

    @cached_property
    def lengths(self) -> np.ndarray:
        """(n,) float32."""
        return row_lengths(self.vectors)

    @cached_property
    def is_distinct(self) -> np.ndarray:
        """(n,) bool: of atoms that symmetry makes equivalent only the first; every structure."""
        if "orbit" not in self.keys.column_names:
            return np.ones(len(self.vectors), dtype=bool)
        return np.asarray(self.column("site_index") == self.column("orbit"))

    def is_of(self, structure_id: str) -> np.ndarray:
        """(n,) bool: the rows of one structure."""
        import pyarrow.compute as pc

        return np.asarray(pc.equal(self.keys["structure_id"], structure_id))

    def column(self, name: str) -> np.ndarray:
        return np.asarray(self.keys[name])

    def take(self, rows: np.ndarray) -> "Points":
        """Some rows, in their order."""
        hubs = None if self.hubs is None else self.hubs[rows]
        return Points(self.keys.take(rows), self.vectors[rows], hubs)


def schema(level: Level, dim: int, *, hubs: bool = False, half: bool = False) -> pa.Schema:
    """Arrow schema of a vector table, with or without a column of hub scores.

    half: vectors are stored in half precision; all that reads them sees float32.
    """
    number = pa.float16() if half else pa.float32()
    fields = [*_KEYS[level], pa.field("vector", pa.list_(number, dim))]
    return pa.schema([*fields, pa.field(HUB, pa.float32())] if hubs else fields)


def key_names(level: Level) -> list[str]:
    """The key columns that readers see: the chunk is the writer's, and costs as much as they do."""
    return [field.name for field in _KEYS[level] if field.name != "chunk_id"]


def table_name(model: str, layer: int, level: Level, space: str | None = None) -> str:
    """The name of a vector table, as `sevennet-0.1.atom` or `aligned-9-1a.sevennet-0.0_1.atom`."""
    parts = [model, text_of(layer), level]
    if space is not None:
        parts.insert(0, space)
    return re.sub(r"[^A-Za-z0-9_.-]", "_", ".".join(parts))
