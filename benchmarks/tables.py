"""For search.py: synthetic rows as a real vector table, and DuckDB's own way into it."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import duckdb_extension_lance
import numpy as np
import pyarrow as pa

from platonic_store.arrow import vector_array
from platonic_store.storage.layout import schema
from platonic_store.storage.location import Disk
from platonic_store.storage.nearest_rows import REFINE
from platonic_store.storage.reader import Reader
from platonic_store.storage.vectors import Vectors
from platonic_store.storage.write_session import writing_to

NAME = "synthetic.0.atom"
PROBES = 64  # of the plain client
Way = Callable[[np.ndarray], np.ndarray]


def fill(folder: Path, rows: np.ndarray) -> None:
    """Make a store with a vector table of these rows, row i of structure "i", indexed."""
    target = schema("atom", rows.shape[1])
    zeros = np.zeros(len(rows), dtype=int)
    columns = [np.arange(len(rows)).astype(str), zeros, zeros, zeros, zeros, vector_array(rows)]
    arrays = [pa.array(c).cast(f.type) for c, f in zip(columns[:5], target, strict=False)]
    with writing_to(Reader(Disk(folder)), "synthetic vectors") as writer:
        with writer.writing():
            writer.create_table(NAME, target)
            writer.append(NAME, pa.Table.from_arrays([*arrays, columns[5]], schema=target))
        writer.publish(maintained=[NAME])


def stored(folder: Path) -> Vectors:
    """The vector tables of the store in a folder, opened anew."""
    reader = Reader(Disk(folder))
    newest = reader.newest_manifest()
    assert newest is not None
    return Vectors(reader.files, newest)


def duckdb_way(folder: Path, k: int) -> Way:
    """The index as DuckDB's Lance extension searches it."""
    extension = next(Path(duckdb_extension_lance.__file__).parent.rglob("*.duckdb_extension"))
    connection = duckdb.connect()
    connection.load_extension(str(extension))
    connection.execute(f"ATTACH '{folder / 'vectors'}' AS vectors (TYPE lance)")
    sql = (
        f"""SELECT structure_id FROM lance_vector_search('vectors.main."{NAME}"', 'vector', """
        f"?::FLOAT[], k := {k}, nprobs := {PROBES}, refine_factor := {REFINE}) ORDER BY _distance"
    )
    return lambda query: np.array(
        [[int(i) for (i,) in connection.cursor().execute(sql, [row.tolist()]).fetchall()]
         for row in query]
    )  # fmt: skip
