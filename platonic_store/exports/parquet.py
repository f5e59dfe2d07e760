"""Arrow tables as one Parquet file, which has its name once it is complete."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa

from platonic_store.storage.disk import refusals
from platonic_store.storage.location import completed


def write(parts: Iterable[pa.Table], path: Path) -> pa.Schema:
    """Write tables of one schema, at least one, each as a row group; returns the schema.

    The first is asked for before anything is made. Raises: StoreNotWritable, and what `parts` do.
    """
    from pyarrow import parquet

    tables: Iterator[pa.Table] = iter(parts)
    first = next(tables)
    with (
        refusals(path),
        completed(path) as partial,
        parquet.ParquetWriter(partial, first.schema, compression="zstd") as file,
    ):
        for table in chain([first], tables):
            file.write_table(table)
    return first.schema
