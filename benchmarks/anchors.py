"""Anchors and projection at the paper's size: `python benchmarks/anchors.py`.

Each line runs in a process of its own, on one core; peak memory is that of the whole process,
interpreter, libraries and input (145 MB) included. The rows are synthetic: `clustered` has 200
clusters in 12 dimensions and a little noise, `flat` is white noise, DIRECT's worst case.
"""

import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from platonic_store.geometry.anchors import direct, direct_maml, farthest_point
from platonic_store.geometry.neighbours import nearest
from platonic_store.geometry.projection import fit, project

ATOMS, FEATURES, K = 283_000, 128, 100


def synthetic(kind: str, n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((n, FEATURES), dtype=np.float32)
    if kind == "flat":
        return rows
    centres = 3 * rng.standard_normal((200, 12), dtype=np.float32)
    latent = centres[rng.integers(200, size=n)]
    latent += 0.5 * rng.standard_normal(latent.shape, dtype=np.float32)
    return latent @ rng.standard_normal((12, FEATURES), dtype=np.float32) + 0.05 * rows


def plain_numpy(anchors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The paper's equation in single precision, in one go."""
    anchors = anchors / np.linalg.norm(anchors, axis=1, keepdims=True)
    similarities: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True) @ anchors.T
    return similarities


TASKS: dict[str, Callable[[np.ndarray], object]] = {
    "DIRECT": lambda rows: direct(rows, K),
    "DIRECT, maml mode": lambda rows: direct_maml(rows, K),
    "farthest point": lambda rows: farthest_point(rows, K),
    "project, cosine": lambda rows: project(fit("cosine", rows[:K]), rows),
    "project, whitened": lambda rows: project(fit("whitened", rows[:K]), rows),
    "project, plain numpy float32": lambda rows: plain_numpy(rows[:K], rows),
    "10 nearest of 1 row, exact": lambda rows: nearest(rows[:1], rows, 10),
    "10 nearest of 512 rows, exact": lambda rows: nearest(rows[:512], rows, 10),
}
RUNS = [
    ("DIRECT", "clustered", ATOMS),
    ("DIRECT", "flat", ATOMS),
    ("DIRECT", "clustered", 20_000),
    ("DIRECT, maml mode", "clustered", 20_000),
    ("DIRECT", "flat", 20_000),
    ("DIRECT, maml mode", "flat", 20_000),
    ("farthest point", "flat", ATOMS),
    ("project, cosine", "clustered", ATOMS),
    ("project, whitened", "clustered", ATOMS),
    ("project, plain numpy float32", "clustered", ATOMS),
    ("10 nearest of 1 row, exact", "clustered", ATOMS),
    ("10 nearest of 512 rows, exact", "clustered", ATOMS),
]


def measure(task: str, kind: str, n: int) -> tuple[float, float]:
    """Seconds and peak GiB."""
    rows = synthetic(kind, n)
    TASKS[task](rows[:2_000])  # imports, and BLAS's first call
    with threadpool_limits(1):
        start = time.perf_counter()
        TASKS[task](rows)
        seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def main() -> None:
    table = Table(title=f"K = {K}, D = {FEATURES}, synthetic float32 rows, one core")
    for column in ("task", "rows"):
        table.add_column(column)
    for column in ("n", "seconds", "peak GiB"):
        table.add_column(column, justify="right")
    for run in RUNS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            seconds, peak = pool.submit(measure, *run).result()
        table.add_row(run[0], run[1], f"{run[2]:,}", f"{seconds:.2f}", f"{peak:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
