"""The vector tables of a snapshot, read: points in memory, and search by an index."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from platonic_store.arrow import vector_matrix
from platonic_store.storage.files import Files
from platonic_store.storage.lance_tables import open_table, readers_session, rows_by_chunk
from platonic_store.storage.layout import HUB, Level, Points, key_names
from platonic_store.storage.manifest import Manifest
from platonic_store.storage.nearest_rows import Accept, nearest_among, nearest_rows
from platonic_store.storage.sqltext import literals
from platonic_store.storage.vector_index import Measured, measured

if TYPE_CHECKING:
    from lance import LanceDataset

CACHE_BYTES = 1 << 30
WHOLE_BYTES = 1 << 26
MANY = 4  # one row of so many asked for: then all are read


class PointsCache:
    """Whole tables in memory: the most recently used that fit.

    By the checksums of their versions' manifests, because copies of a store that went different
    ways have the same numbers.
    """

    def __init__(self) -> None:
        self._points: OrderedDict[str, Points] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Points | None:
        with self._lock:
            if key in self._points:
                self._points.move_to_end(key)
            return self._points.get(key)

    def put(self, key: str, points: Points) -> None:
        if not fits_cache(points.vectors.nbytes):
            return
        with self._lock:
            self._points[key] = points
            while sum(p.vectors.nbytes for p in self._points.values()) > CACHE_BYTES:
                self._points.popitem(last=False)


# Snapshots share the tables that did not change between them.
_cache = PointsCache()


def fits_cache(nbytes: int) -> bool:
    """Whether vectors of that size are kept in memory; if not, let Lance filter and search."""
    return nbytes <= CACHE_BYTES


class Vectors:
    """The vector tables of a snapshot."""

    def __init__(self, files: Files, manifest: Manifest):
        self._files, self._manifest = files, manifest
        self._tables: dict[str, LanceDataset] = {}
        self._asked: set[str] = set()  # tables of which one structure's rows were read

    def _open(self, name: str) -> "LanceDataset":
        if name not in self._tables:
            uri, options = self._files.table(self._manifest, name)
            version = self._manifest.vectors[name].version
            with self._files.location.explained():
                self._tables[name] = open_table(uri, version, options, readers_session())
        return self._tables[name]

    def read(
        self, name: str, columns: list[str], condition: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Stream columns of the rows that meet a condition."""
        table = self._open(name)
        with self._files.location.explained():
            yield from table.to_batches(columns=columns, filter=condition)

    def rows_by_chunk(self, name: str) -> dict[int, int]:
        """How many rows each chunk has in the table."""
        table = self._open(name)
        with self._files.location.explained():
            return rows_by_chunk(table)

    def points(self, name: str, level: Level, condition: str | None = None) -> Points:
        """All rows (kept in memory for the next call while they fit) or those of a condition."""
        key = self.checksum(name)
        if condition is None and (known := _cache.get(key)):
            return known
        columns = self._columns(name, level)
        batches = list(self.read(name, columns, condition))
        if batches:
            table = pa.Table.from_batches(batches)
        else:
            table = self._open(name).schema.empty_table().select(columns)
        points = self._points(level, table)
        if condition is None:
            _cache.put(key, points)
        return points

    def _columns(self, name: str, level: Level) -> list[str]:
        return [*key_names(level), "vector", *[HUB] * self.has_hubs(name)]

    def _points(self, level: Level, table: pa.Table) -> Points:
        return Points(
            table.select(key_names(level)).combine_chunks(),
            vector_matrix(table["vector"]),
            np.asarray(table[HUB]) if HUB in table.column_names else None,
        )

    def stream(self, name: str, level: Level, condition: str | None = None) -> Iterator[Points]:
        """The rows as `points`, some at a time, kept nowhere."""
        for batch in self.read(name, self._columns(name, level), condition):
            yield self._points(level, pa.Table.from_batches([batch]))

    def of_structure(self, name: str, level: Level, id_: str) -> Points:
        """The rows of one structure: from memory if the table is there, else read by themselves.

        Who asks twice will ask often: a table of moderate size is then brought into memory.
        """
        known = _cache.get(self.checksum(name))
        size = sum(file.size for file in self._manifest.vectors[name].files)
        if known is None and name in self._asked and size <= WHOLE_BYTES:
            known = self.points(name, level)
        self._asked.add(name)
        if known is None:
            return self.points(name, level, f"structure_id = {literals([id_])}")
        return known.take(np.flatnonzero(known.is_of(id_)))

    def of_structures(self, name: str, level: Level, ids: list[str]) -> Points:
        """The rows of some structures: from memory if the table is there or is of moderate size."""
        import pyarrow.compute as pc

        known = _cache.get(self.checksum(name))
        size = sum(file.size for file in self._manifest.vectors[name].files)
        if known is None and size <= WHOLE_BYTES:
            known = self.points(name, level)
        if known is None:
            return self.points(name, level, f"structure_id IN ({literals(ids) or 'NULL'})")
        wanted = pc.is_in(known.keys["structure_id"], pa.array(ids, pa.string()))
        return known.take(np.flatnonzero(np.asarray(wanted)))

    def keys_of_structures(self, name: str, level: Level, ids: list[str]) -> pa.Table:
        """The keys of the rows of some structures, from memory if the table is there."""
        import pyarrow.compute as pc

        if known := _cache.get(self.checksum(name)):
            wanted = pc.is_in(known.keys["structure_id"], pa.array(ids, pa.string()))
            return known.keys.filter(wanted)
        condition = f"structure_id IN ({literals(ids) or 'NULL'})"
        return self._open(name).to_table(columns=key_names(level), filter=condition)

    def keys(self, name: str, level: Level) -> Iterator[pa.RecordBatch]:
        """The keys of all rows, streamed in the table's order."""
        yield from self.read(name, key_names(level))

    def at(self, name: str, level: Level, rows: np.ndarray) -> Points:
        """Some rows by their place in the table, in their order: read by themselves if they are few
        and the table is not in memory.
        """
        known = _cache.get(self.checksum(name))
        count = self._manifest.vectors[name].rows
        if known is None and len(rows) * MANY >= count:
            if not fits_cache(4 * count * self._open(name).schema.field("vector").type.list_size):
                return self._picked(name, level, rows)
            known = self.points(name, level)
        if known is not None:
            return known.take(rows)
        order = np.argsort(rows)
        columns = self._columns(name, level)
        with self._files.location.explained():
            found = self._open(name).take(rows[order].tolist(), columns=columns)
        return self._points(level, found.take(np.argsort(order)))

    def _picked(self, name: str, level: Level, rows: np.ndarray) -> Points:
        """Some rows by their place in a table that does not fit in memory, read as a whole."""
        order = np.argsort(rows)
        ascending, start, parts = rows[order], 0, []
        for points in self.stream(name, level):
            first, last = np.searchsorted(ascending, [start, start + len(points.vectors)])
            parts.append(points.take(ascending[first:last] - start))
            start += len(points.vectors)
        hubs = [one.hubs for one in parts if one.hubs is not None]
        return Points(
            pa.concat_tables([one.keys for one in parts]),
            np.concatenate([one.vectors for one in parts]),
            np.concatenate(hubs) if hubs else None,
        ).take(np.argsort(order))

    def dtype(self, name: str) -> np.dtype[Any]:
        """The precision in which vectors are stored."""
        with self._files.location.explained():
            kind = self._open(name).schema.field("vector").type.value_type
        stored: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
        return stored

    def checksum(self, name: str) -> str:
        """Of the table's content: copies that went different ways have the same versions."""
        files = self._manifest.vectors[name].files
        return next(file.sha256 for file in files if "/_versions/" in file.path)

    def nearest_indexed(
        self,
        name: str,
        vector: np.ndarray,
        k: int,
        level: Level,
        accept: Accept | None = None,
        among: int = 0,
        *,
        is_row: bool = False,
    ) -> pa.Table | None:
        """The k nearest rows by the table's ANN index: see `nearest_rows`. Memory stays flat."""
        table = self._open(name)
        with self._files.location.explained():
            way = measured(table)
            args = table, level, vector, k, way.probes, accept, among, way.refine
            return nearest_rows(*args, is_row=is_row)

    def nearest_among(
        self, name: str, vector: np.ndarray, k: int, level: Level, condition: str
    ) -> pa.Table:
        """The k nearest of the rows that meet a condition of Lance's on the key columns.

        Such as `structure_id IN ('a', 'b')`. See `nearest_rows.nearest_among`.
        """
        table = self._open(name)
        with self._files.location.explained():
            return nearest_among(table, level, vector, k, condition, measured(table).refine)

    def has_hubs(self, name: str) -> bool:
        """Whether the table's rows have hub scores."""
        with self._files.location.explained():
            return HUB in self._open(name).schema.names

    def measured(self, name: str) -> Measured:
        """How the table is searched by its index, and the recall that was measured so."""
        with self._files.location.explained():
            return measured(self._open(name))
