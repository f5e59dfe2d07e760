"""Which index: `index_types.py TABLE.lance`, a vector table of atoms that scale.py made.

Each index is made in a copy. 100 rows of the table ask for the ten nearest, as searches do: the
index gives 80 rows, which are measured again by their vectors. Given is the fewest lists probed
that reach a recall of 0.99 (the best there is, if none does), the time of a search, CPU, when its
lists are in memory and when they are not yet, and of all queries with what they read.
"""

import argparse
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import lance
import numpy as np
from rich.console import Console
from rich.table import Table

from platonic_store.storage import nearest_rows, vector_index

if TYPE_CHECKING:
    from lance import LanceDataset

TYPES: dict[str, dict[str, Any]] = {
    "IVF_SQ": {},
    "IVF_PQ, 32 bytes": {"num_sub_vectors": 32},
    "IVF_PQ, 64 bytes": {"num_sub_vectors": 64},
    "IVF_RQ": {},
    "IVF_HNSW_SQ": {},
}
PROBES = (1, 2, 4, 8, 16, 32, 64)
GOOD = 0.99


def opened(path: Path) -> "LanceDataset":
    """With nothing in memory."""
    return lance.dataset(str(path), session=lance.Session(index_cache_size_bytes=4 << 30))  # type: ignore[attr-defined]


def _cpu(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return 1e3 * (time.process_time() - start)


def row(path: Path, name: str, options: dict[str, Any], lists: int) -> list[str]:
    table = opened(path)
    kind = name.split(",")[0]
    start = time.process_time()
    table.create_index(
        "vector", kind, metric="cosine", num_partitions=lists, replace=True, **options
    )
    made = time.process_time() - start
    (index,) = [one for one in opened(path).describe_indices() if one.field_names == ["vector"]]
    size = sum(segment.size_bytes or 0 for segment in index.segments)
    queries = vector_index.queries_of(table, "atom")
    limits = vector_index.exact_distances(table, "atom", queries)[:, -1] + 2e-6
    recall, probes = 0.0, 0
    for probes in PROBES:
        table = opened(path)
        hits, times = [], []
        for query, limit in zip(queries, limits, strict=True):
            start = time.process_time()
            found = nearest_rows.nearest_rows(table, "atom", query, 11, probes)
            times.append(1e3 * (time.process_time() - start))
            assert found is not None
            hits.append((np.asarray(found["_distance"]) <= limit).sum() - 1)
        recall = float(np.maximum(hits, 0).mean()) / 10
        if recall >= GOOD:
            break
    table = opened(path)
    cold, warm = (
        median(
            _cpu(lambda query=query: nearest_rows.search(table, query, 88, probes))  # type: ignore[misc]
            for query in queries
        )
        for _ in range(2)
    )
    numbers = f"{made:.0f}", f"{size / 1e6:.0f}", str(probes), f"{recall:.3f}"
    return [name, str(lists), *numbers, f"{cold:.1f}", f"{warm:.1f}", f"{median(times):.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    source = parser.parse_args().table
    console = Table("index", "lists", "made, s", "MB", "probes", "recall@10")
    for name in ("search, not in memory, ms", "in memory", "with rows"):
        console.add_column(name)
    with TemporaryDirectory(dir=source.parent) as folder:
        path = Path(folder) / source.name
        shutil.copytree(source, path)
        rows = opened(path).count_rows()
        for name, options in TYPES.items():
            for size in (4_096, 1_024) if name == "IVF_SQ" else (4_096,):
                found = row(path, name, options, rows // size)
                print(*found, sep=" | ", flush=True)
                console.add_row(*found)
    Console(width=120).print(console)


if __name__ == "__main__":
    main()
