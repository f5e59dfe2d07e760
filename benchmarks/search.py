"""Search latency and recall at the paper's size: `search.py [--rows N] [--store PATH]`

The vectors are synthetic (200 clusters in 12 of 128 dimensions, and a little noise), in a real
vector table with its index. Plain numpy holds normalised float32 rows, multiplies and partitions;
recall@10 is against brute force in double precision. `--store` adds `Store.similar`, end to end,
on a real store.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import faiss
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.anchors import ATOMS, FEATURES, synthetic
from benchmarks.tables import NAME, Way, duckdb_way, fill, stored
from platonic_store.geometry.neighbours import nearest
from platonic_store.runtimes.cores import usable_cores
from platonic_store.store import Store

K, QUERIES, BATCH = 10, 30, 100
ONE_BY_ONE = ("ours, IVF_SQ index", "DuckDB extension, the same index")
COLD = """
import sys
from pathlib import Path
from platonic_store.geometry.neighbours import nearest
from platonic_store.storage.location import Disk
from platonic_store.storage.reader import Reader
from platonic_store.storage.vectors import Vectors
reader = Reader(Disk(Path(sys.argv[1])))
points = Vectors(reader.files, reader.newest_manifest()).points(sys.argv[2], "atom")
nearest(points.vectors[:1], points.vectors, 10)
"""


def ways(folder: Path, rows: np.ndarray) -> dict[str, Way]:
    """Each finds the K nearest rows of each query; plain numpy comes first."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    vectors = stored(folder)
    flat = faiss.IndexFlatIP(FEATURES)
    flat.add(unit)

    def plain(query: np.ndarray) -> np.ndarray:
        dot = query @ unit.T  # a query's length does not change the order
        best = np.argpartition(-dot, K, axis=1)[:, :K]
        return np.take_along_axis(best, np.argsort(-np.take_along_axis(dot, best, 1)), 1)

    def exact(query: np.ndarray) -> np.ndarray:
        points = vectors.points(NAME, "atom")
        return nearest(query, points.vectors, K)[0]

    def indexed(query: np.ndarray) -> np.ndarray:
        found = []
        for row in query:
            table = vectors.nearest_indexed(NAME, row, K, "atom")
            assert table is not None, "the table has no index"
            found.append(table["structure_id"].to_pylist())
        return np.array(found).astype(int)

    return {
        "plain numpy, float32": plain,
        "faiss IndexFlatIP": lambda query: flat.search(query, K)[1],
        "ours, exact": exact,
        ONE_BY_ONE[0]: indexed,
        ONE_BY_ONE[1]: duckdb_way(folder, K),
    }


def milliseconds(way: Callable[[Any], object], arguments: Iterable[Any]) -> np.ndarray:
    """How long each call takes, but the first."""
    took = []
    for argument in arguments:
        start = time.perf_counter()
        way(argument)
        took.append(1000 * (time.perf_counter() - start))
    return np.array(took[1:])


def compare(table: Table, folder: Path, n: int) -> None:
    """Synthetic rows: a line for each way and size of batch."""
    rows = synthetic("clustered", n + BATCH)
    rows, queries = rows[:n], rows[n:]
    start = time.perf_counter()
    fill(folder, rows)
    print(f"{n:,} rows written and indexed in {time.perf_counter() - start:.1f} s")
    truth = nearest(queries, rows.astype(np.float64), K)[0]
    for size, times in ((1, QUERIES), (BATCH, 3)):
        portions = [np.roll(queries, -i, axis=0)[:size] for i in range(times + 1)]
        base = 0.0
        for name, way in ways(folder, rows).items():
            if size > 1 and name in ONE_BY_ONE:
                continue
            took = milliseconds(way, portions) / size
            recall = np.mean(
                [np.isin(*pair).mean() for pair in zip(truth, way(queries), strict=True)]
            )
            base = base or float(np.median(took))
            add(table, f"{name}, {size} at once", took, base, f"{recall:.3f}")
        table.add_section()
    command = [sys.executable, "-c", COLD, str(folder), NAME]
    took = milliseconds(lambda _: subprocess.run(command, check=True), range(4))
    add(table, "ours, exact, a new process", took)


def add(table: Table, name: str, took: np.ndarray, base: float = 0, recall: str = "") -> None:
    ratio = f"{np.median(took) / base:.1f}×" if base else ""
    table.add_row(name, f"{np.median(took):.2f}", f"{np.quantile(took, 0.95):.2f}", ratio, recall)


def end_to_end(table: Table, path: Path) -> None:
    """`Store.similar` on a real store."""
    store = Store.open(path)
    ids = store.sql("SELECT structure_id FROM structure ORDER BY hash(structure_id) LIMIT 11")[
        "structure_id"
    ]
    models = store.sql("SELECT name FROM model ORDER BY added_at")["name"].tolist()
    queries: dict[str, dict[str, Any]] = {
        "structures": {},
        "structures, with a condition": {"where": "nelements = 2"},
        "atoms": {"site": 0},
        "atoms, with a condition": {"site": 0, "where": "nelements = 2"},
        "structures, across models": {"across": models[-1]},
    }
    for name, arguments in queries.items():
        add(table, f"Store.similar, {name}", milliseconds(partial(store.similar, **arguments), ids))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ATOMS)
    parser.add_argument("--store", type=Path)
    asked = parser.parse_args()
    title = f"{K} nearest of {asked.rows:,} × {FEATURES} synthetic vectors, {usable_cores()} cores"
    table = Table("way", title=title)
    for name in ("ms a query, median", "95 %", "to numpy", "recall@10"):
        table.add_column(name, justify="right")
    with TemporaryDirectory() as folder:
        compare(table, Path(folder), asked.rows)
    if asked.store:
        table.add_section()
        end_to_end(table, asked.store)
    Console(width=110).print(table)
    print(f"load average while measuring: {os.getloadavg()[1]:.1f} on {usable_cores()} cores")


if __name__ == "__main__":
    main()
