"""The lists of a table's index: their centres, and the list of each row.

Lance computes them in the precision of the column, and in half precision it takes ten times as long
as in single. So they are computed here, in single precision, and given to Lance.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from platonic_store.arrow import vector_matrix
from platonic_store.geometry.cells import FITTED, cells, centres_of
from platonic_store.runtimes.threads import ahead

if TYPE_CHECKING:
    from lance import LanceDataset

AHEAD_BYTES = 1 << 26  # that Lance reads before they are asked for; by itself 2 GiB
_ROW, _LIST = "row_id", "partition"  # as Lance calls them


@contextmanager
def made_lists(table: "LanceDataset", count: int) -> Iterator[dict[str, Any]]:
    """Within the block: what `create_index` takes in order to put the rows into so many lists."""
    import lance

    centres = _centres(table, count)
    schema = pa.schema([pa.field(_ROW, pa.uint64()), pa.field(_LIST, pa.uint32())])
    with TemporaryDirectory(prefix="platonic-lists-") as folder:
        path = str(Path(folder) / "lists.lance")
        rows = pa.RecordBatchReader.from_batches(schema, _lists(table, centres))
        # Lance reads the lists from one file.
        lance.write_dataset(rows, path, max_rows_per_file=table.count_rows() + 1)
        yield {
            "num_partitions": len(centres),
            "ivf_centroids": centres,
            "precomputed_partition_dataset": path,
        }


def _centres(table: "LanceDataset", count: int) -> np.ndarray:
    """(count, dim) float32 of unit length, from rows drawn at random."""
    rows = table.count_rows()
    places = np.random.default_rng(0).choice(rows, min(rows, FITTED * count), replace=False)
    found = table.take(np.sort(places).tolist(), columns=["vector"])
    return centres_of(vector_matrix(found["vector"]), count)


def _lists(table: "LanceDataset", centres: np.ndarray) -> Iterator[pa.RecordBatch]:
    batches = table.to_batches(columns=["vector"], with_row_id=True, io_buffer_size=AHEAD_BYTES)
    for batch, nearest in ahead(lambda one: cells(vector_matrix(one["vector"]), centres), batches):
        yield pa.record_batch([batch["_rowid"], pa.array(nearest.astype(np.uint32))], [_ROW, _LIST])
