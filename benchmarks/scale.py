"""What every query costs as the store grows: `scale.py [--atoms N …] [--folder F] [--only WORD]`.

The stores are synthetic (see synthetic_store.py): crystals of ten atoms on average, two models of
128 features, in a real catalogue and real vector tables, kept in the folder for the next run. Each
query runs in a process of its own. Of the interactive ones the median of ten warm calls is given,
of the others one call. `cpu` is the time of all threads, peak memory that of the whole process,
and the exponent is fitted to the cpu time.
"""

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import gettempdir
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from synthetic_store import FEATURES, make

from platonic_store.questions.shared.inputs import ExternalStructure
from platonic_store.runtimes.cores import usable_cores
from platonic_store.store import Store

SIZES = (7_000, 70_000, 283_000)
ONE, OTHER = "synthetic-0", "synthetic-1"
CALLS = 11


def typicality_of_new(store: Store, _: str) -> object:
    """The typicality of a structure that is not in the store, from its embedding on."""
    atoms = np.random.default_rng(0).standard_normal((10, FEATURES), dtype=np.float32)
    numbers, cell = np.arange(10) % 5 + 6, np.eye(3)
    new = ExternalStructure(10 * atoms, numbers, "BCNOF", np.zeros((10, 3)), cell, cell[0] > 2)
    return store.typicality(new, model=ONE)


INTERACTIVE: dict[str, Callable[[Store, str], object]] = {
    "similar, structures": lambda store, id_: store.similar(id_),
    "similar, atoms": lambda store, id_: store.similar(id_, site=0),
    "similar, structures, across": lambda store, id_: store.similar(id_, across=OTHER),
    "similar, atoms, across": lambda store, id_: store.similar(id_, site=0, across=OTHER),
    "similar, atoms, with a condition": lambda store, id_: store.similar(
        id_, site=0, where="nelements = 2"
    ),
    "similar, by transport": lambda store, id_: store.similar(id_, distance="transport"),
    "analogy": lambda store, id_: store.analogy(f"{id_} - s1 + s2"),
    "typicality, a stored structure": lambda store, id_: store.typicality(id_),
    "typicality, a new structure": typicality_of_new,
}
WHOLE: dict[str, Callable[[Store], object]] = {
    "score, everything": lambda store: store.score([ONE], renew=True),
    "neighbours of every structure": lambda store: store.neighbours(k=5),
    "align, a pair of models": lambda store: store.align([ONE, OTHER]),
    "transport, a pair of models": lambda store: store.transport(ONE, OTHER),
    "stitch, a pair of models": lambda store: store.stitch(ONE, OTHER, "energy"),
    "bias of a model": lambda store: store.bias(model=ONE),
    "select_anchors, DIRECT": lambda store: store.select_anchors(k=100),
}


class Cost(NamedTuple):
    """Seconds, seconds of all threads, GiB."""

    wall: float
    cpu: float
    peak: float


def measure(name: str, path: Path) -> Cost:
    """One query, in this process."""
    store = Store.open(path)
    if name in WHOLE:
        spent = [_timed(lambda: WHOLE[name](store))]
    else:
        ids = store.sql(
            f"SELECT structure_id FROM structure ORDER BY hash(structure_id) LIMIT {CALLS}"
        )["structure_id"]
        query = INTERACTIVE[name]
        spent = [_timed(partial(query, store, id_)) for id_ in ids][1:]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    wall, cpu = (statistics.median(times) for times in zip(*spent, strict=True))
    return Cost(wall, cpu, peak)


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def prepared(folder: Path, atoms: int) -> Path:
    """The store of that size, with anchors, a space and scores."""
    path = folder / f"{atoms}.store"
    if not path.exists():
        store = make(path, atoms)
        store.select_anchors(k=100)
        store.project(recipe="cosine")
    Store.open(path).score([ONE])
    return path


def exponent(sizes: list[int], costs: list[Cost]) -> float:
    """Of cpu time in the number of atoms."""
    return float(np.polyfit(np.log(sizes), np.log([cost.cpu for cost in costs]), 1)[0])


def _apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a process of its own. This one stays small: a child begins with its peak."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--atoms", type=int, nargs="+", default=SIZES)
    parser.add_argument("--folder", type=Path, default=Path(gettempdir()) / "platonic-scale")
    parser.add_argument("--only", default="", help="queries whose name holds this word")
    asked = parser.parse_args()
    paths = {atoms: _apart(prepared, asked.folder, atoms) for atoms in asked.atoms}
    table = Table(title=f"synthetic stores, {usable_cores()} cores; seconds, cpu seconds, GiB")
    table.add_column("query")
    for atoms in asked.atoms:
        table.add_column(f"{atoms:,} atoms", justify="right")
    table.add_column("exponent", justify="right")
    for name in [name for name in (*INTERACTIVE, *WHOLE) if asked.only in name]:
        costs = [_apart(measure, name, path) for path in paths.values()]
        cells = [f"{cost.wall:.3g}  {cost.cpu:.3g}  {cost.peak:.2f}" for cost in costs]
        slope = f"{exponent(asked.atoms, costs):.2f}" if len(costs) > 1 else ""
        table.add_row(name, *cells, slope)
        print(name, *cells, slope, sep=" | ", flush=True)
    Console(width=120).print(table)
    print(f"load average while measuring: {os.getloadavg()[1]:.1f} on {usable_cores()} cores")


if __name__ == "__main__":
    main()
