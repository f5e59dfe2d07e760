"""The Lance tables of a store: append, read at a version, search, index, delete.

What a method writes is on the disk when it returns. A reader always names the version that the
catalogue calls committed, so that rows which a writer has appended but not yet committed do not
exist for it.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import pyarrow as pa

from platonic_store.arrow import vector_matrix
from platonic_store.storage import disk
from platonic_store.storage.layout import (
    Level,
    Points,
    key_names,
    schema,
    table_name,
)
from platonic_store.storage.sqltext import literals

if TYPE_CHECKING:
    from lance import LanceDataset

__all__ = [
    "Level",
    "Points",
    "Vectors",
    "key_names",
    "schema",
    "table_name",
]

# Lance's 2.3 files make DuckDB's Lance extension panic.
_STORAGE_VERSION: Final = "2.2"
CACHE_BYTES = 1 << 30
# Below this an exact scan takes milliseconds; above it the plain DuckDB client wants an index.
INDEX_FROM_ROWS = 100_000
# Recall@10 >= 0.99 at 283,000 x 128; tests/store/test_vectors.py holds them to it.
NPROBES = 64
REFINE = 5
PARTITION_ROWS = 4096
# As long as a query may take.
KEEP_VERSIONS = timedelta(hours=1)
_MARGIN = timedelta(minutes=1)


class Vectors:
    """The vector tables in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._cache: OrderedDict[tuple[str, int], Points] = OrderedDict()
        self._cache_lock = threading.Lock()
        self._synced: dict[str, set[Path]] = {}

    def _open(self, name: str, version: int | None = None) -> "LanceDataset":
        os.environ.setdefault("LANCE_LOG", "error")  # it warns that a new table is new
        import lance  # half a second that `--help` need not wait for

        return lance.dataset(self._path(name), version=version)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.lance"

    def create(self, name: str, level: Level, dim: int) -> int:
        """Make an empty table, replacing a left-over of that name; returns its version."""
        with disk.refusals(self.folder):
            return self._write(name, schema(level, dim).empty_table(), "overwrite")

    def append(self, name: str, rows: pa.Table | pa.RecordBatchReader) -> int:
        """Append rows as one Lance commit; returns the new version."""
        with disk.refusals(self.folder):
            return self._write(name, rows, "append")

    def _write(self, name: str, rows: pa.Table | pa.RecordBatchReader, mode: str) -> int:
        os.environ.setdefault("LANCE_LOG", "error")  # it warns that a new table is new
        import lance

        path = self._path(name)
        table = lance.write_dataset(rows, path, mode=mode, data_storage_version=_STORAGE_VERSION)
        self.sync(name)
        return table.version

    def delete(self, name: str, condition: str) -> int:
        """Delete the rows that meet a condition; returns the new version."""
        table = self._open(name)
        with disk.refusals(self.folder):
            table.delete(condition)
            self.sync(name)
            return table.version

    def sync(self, name: str) -> None:
        """Have all that was written to a table, by whomever, on the disk.

        Lance never changes a file, so that what was synced once need not be looked at again.
        """
        folder = self._path(name)
        there = {folder, *folder.rglob("*")}
        new = there - self._synced.get(name, set())
        for path in new | {path.parent for path in new}:
            disk.sync(path)
        self._synced[name] = there

    def latest(self, name: str) -> int:
        return self._open(name).version

    def rows_by_chunk(
        self, name: str, version: int | None = None, condition: str | None = None
    ) -> dict[int, int]:
        """How many rows (of those that meet a condition) each chunk has in the table."""
        counts: dict[int, int] = {}
        for batch in self.read(name, version, ["chunk_id"], condition):
            chunks, rows = np.unique(batch["chunk_id"].to_numpy(), return_counts=True)
            for chunk, count in zip(chunks.tolist(), rows.tolist(), strict=True):
                counts[chunk] = counts.get(chunk, 0) + count
        return counts

    def read(
        self, name: str, version: int | None, columns: list[str], condition: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Stream columns of the rows that meet a condition."""
        yield from self._open(name, version).to_batches(columns=columns, filter=condition)

    def points(self, name: str, version: int, level: Level, condition: str | None = None) -> Points:
        """All rows (kept in memory for the next call while they fit) or those of a condition."""
        key = (name, version)
        with self._cache_lock:
            if condition is None and key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        columns = [*key_names(level), "vector"]
        batches = list(self.read(name, version, columns, condition))
        if batches:
            table = pa.Table.from_batches(batches)
        else:
            table = self._open(name, version).schema.empty_table().select(columns)
        points = Points(
            table.drop_columns("vector").combine_chunks(), vector_matrix(table["vector"])
        )
        if condition is None:
            self._remember(key, points)
        return points

    def of_structure(self, name: str, version: int, level: Level, id_: str) -> Points:
        """The rows of one structure: from memory if the table is there, else read by themselves."""
        with self._cache_lock:
            known = self._cache.get((name, version))
        if known is None:
            return self.points(name, version, level, f"structure_id = {literals([id_])}")
        rows = np.flatnonzero(known.is_of(id_))
        return Points(known.keys.take(rows), known.vectors[rows])

    def fits_cache(self, nbytes: int) -> bool:
        """Whether vectors of that size are kept in memory; if not, let Lance filter and search."""
        return nbytes <= CACHE_BYTES

    def _remember(self, key: tuple[str, int], points: Points) -> None:
        if not self.fits_cache(points.vectors.nbytes):
            return
        with self._cache_lock:
            self._cache[key] = points
            while sum(p.vectors.nbytes for p in self._cache.values()) > CACHE_BYTES:
                self._cache.popitem(last=False)

    def nearest_indexed(
        self,
        name: str,
        version: int,
        vector: np.ndarray,
        k: int,
        level: Level,
        condition: str | None = None,
    ) -> pa.Table:
        """The k nearest rows by the table's ANN index, as keys and cosine `_distance`.

        condition: of Lance's SQL, on the key columns, such as `structure_id IN ('a', 'b')`. Rows
        that do not meet it are left out before the nearest are chosen: k are found where k are
        there. Of atoms only one of each set of equivalent sites answers. Memory stays flat.
        """
        nearest = {"column": "vector", "q": vector, "k": k, "metric": "cosine"}
        nearest |= {"minimum_nprobes": NPROBES, "refine_factor": REFINE}
        conditions = ["site_index = orbit"] * (level == "atom")
        if condition is not None:
            conditions.append(f"({condition})")
            # To find the rows costs more than to look for them in all partitions.
            nearest["search_effort"] = 1.0
        return self._open(name, version).to_table(
            columns=[*key_names(level), "_distance"],
            nearest=nearest,
            filter=" AND ".join(conditions) or None,
            prefilter=True,
        )

    def maintain(self, name: str) -> int:
        """Compact, index a large table, and bring its index up to date; returns the version.

        All versions stay readable until `forget_old_versions`.
        """
        table = self._open(name)
        with disk.refusals(self.folder):
            table.optimize.compact_files()
            if table.count_rows() >= INDEX_FROM_ROWS and not table.describe_indices():
                self._index(name)
                table = self._open(name)
            table.optimize.optimize_indices()
            self.sync(name)
            return table.version

    def _index(self, name: str) -> None:
        import lancedb  # two seconds that only a large table is worth
        from lancedb.index import IvfFlat

        index = IvfFlat(distance_type="cosine", target_partition_size=PARTITION_ROWS)
        lancedb.connect(str(self.folder)).open_table(name).create_index("vector", config=index)

    def forget_old_versions(self, name: str) -> None:
        """Free the disk of versions that have not been the newest for a while: no reader is on one.

        The newest must be the committed one.
        """
        table = self._open(name)
        now = datetime.now()
        times = [cast(datetime, version["timestamp"]) for version in table.versions()]
        outlived = [time for time in times if time <= now - KEEP_VERSIONS]
        if len(outlived) > 1:
            # The last of these was the newest version until less than KEEP_VERSIONS ago.
            age = datetime.now() - max(outlived)
            with disk.refusals(self.folder):
                table.cleanup_old_versions(older_than=age + _MARGIN)
