"""Batches of structures, cut to the size of a request to a worker."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "numbers": pa.list_(pa.int16()),
        "positions": pa.list_(pa.float64()),
        "cell": pa.list_(pa.float64(), 9),
        "pbc": pa.list_(pa.bool_(), 3),
    }
)


def rebatch(
    batches: Iterable[pa.RecordBatch], atoms: Callable[[], int]
) -> Iterator[pa.RecordBatch]:
    """The same structures in the same order, at most `atoms()` atoms a batch.

    A larger structure is a batch of its own. Columns other than `SCHEMA`'s are dropped.
    """
    waiting: list[pa.RecordBatch] = []
    room = atoms()
    for batch in batches:
        batch = batch.select(SCHEMA.names).cast(SCHEMA)
        sizes = batch["numbers"].value_lengths().to_numpy(zero_copy_only=False)
        start = 0
        while start < len(sizes):
            fits = int(np.searchsorted(np.cumsum(sizes[start:]), room, side="right"))
            if fits == 0 and not waiting:
                fits = 1
            if fits:
                waiting.append(batch.slice(start, fits))
                room -= int(sizes[start : start + fits].sum())
                start += fits
            if start < len(sizes):
                yield pa.concat_batches(waiting)
                waiting, room = [], atoms()
    if waiting:
        yield pa.concat_batches(waiting)
