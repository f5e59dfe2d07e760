"""What every query costs as the store grows: `scale.py [--atoms N …] [--folder F] [--only WORD]`.

The stores are synthetic (see synthetic_store.py), in a real catalogue and real vector tables, kept
in the folder for the next run; with `--like STORE` their vectors are those of a real store, moved.
Each query runs in a process of its own. Of the interactive ones the first call and the median of
ten warm ones are given, of the others one call; `cpu` is the time of all threads, peak memory that
of the whole process, and the exponent is fitted to the cpu time. `recall@10` compares `similar`
with a scan of the whole table. What is not asked for is not prepared: with `--models 1` there is
no space.

Ten million atoms on one machine, an hour:

    python benchmarks/scale.py --atoms 10000000 --half --like mp20.store --anchors 64
"""

import argparse
import os
import resource
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any, NamedTuple

import numpy as np
from pyarrow import parquet
from rich.console import Console
from rich.table import Table

from benchmarks.large_stores import megabytes, some_ids, timed
from benchmarks.synthetic_store import make
from platonic_store.jobs.project import project_models
from platonic_store.jobs.space import open_space
from platonic_store.questions.shared.inputs import ExternalStructure
from platonic_store.runtimes.cores import usable_cores
from platonic_store.storage import lookup
from platonic_store.store import Store

SIZES = (7_000, 70_000, 283_000)
ONE, OTHER = "synthetic-0", "synthetic-1"
CALLS = 11
CONSENSUS = 4_096  # anchors


def typicality_of_new(store: Store, _: str) -> object:
    """The typicality of a structure that is not in the store, from its embedding on."""
    snapshot = store.snapshot()
    dim = lookup.vector_table(snapshot, lookup.model_layer(snapshot, ONE), "atom").dim
    atoms = np.random.default_rng(0).standard_normal((10, dim), dtype=np.float32)
    numbers, cell = np.arange(10) % 5 + 6, np.eye(3)
    new = ExternalStructure(10 * atoms, numbers, "BCNOF", np.zeros((10, 3)), cell, cell[0] > 2)
    return store.typicality(new, model=ONE)


def _where(condition: str) -> Callable[[Store, str], object]:
    return lambda store, id_: store.similar(id_, site=0, model=ONE, where=condition)


INTERACTIVE: dict[str, Callable[[Store, str], object]] = {
    "similar, structures": lambda store, id_: store.similar(id_, model=ONE),
    "similar, atoms": lambda store, id_: store.similar(id_, site=0, model=ONE),
    "similar, atoms, where 1 %": _where("spacegroup <= 2"),
    "similar, atoms, where 10 %": _where("spacegroup <= 23"),
    "similar, atoms, where 50 %": _where("spacegroup <= 115"),
    "similar, structures, across": lambda store, id_: store.similar(id_, model=ONE, across=OTHER),
    "similar, atoms, across": lambda store, id_: store.similar(
        id_, site=0, model=ONE, across=OTHER
    ),
    "similar, by transport": lambda store, id_: store.similar(id_, model=ONE, distance="transport"),
    "analogy": lambda store, id_: store.analogy(f"{id_} - s1 + s2", model=ONE),
    "typicality, a stored structure": lambda store, id_: store.typicality(id_, model=ONE),
    "typicality, a new structure": typicality_of_new,
}
WHOLE: dict[str, Callable[[Store], object]] = {
    "recall@10 of similar atoms": lambda store: _recall(store, None),
    "recall@10 where 1 %": lambda store: _recall(store, "spacegroup <= 2"),
    "score, everything": lambda store: store.score([ONE], renew=True),
    "neighbours of every structure": lambda store: store.neighbours(model=ONE, k=10),
    "neighbours of every atom": lambda store: _neighbours_of_atoms(store),
    "align, a pair of models": lambda store: store.align([ONE, OTHER]),
    "transport, a pair of models": lambda store: store.transport(ONE, OTHER),
    "stitch, a pair of models": lambda store: store.stitch(ONE, OTHER, "energy"),
    "bias of a model": lambda store: store.bias(model=ONE),
    "select_anchors, DIRECT": lambda store: store.select_anchors(k=100),
    "consensus, fitted": lambda store: consensus(store),
    "consensus, one model projected": lambda store: consensus(store, ONE),
    "consensus, the other projected": lambda store: consensus(store, OTHER),
}
PAIRS = ("across", "pair of models", "bias", "consensus")  # what needs two models


def consensus(store: Store, *models: str) -> None:
    """What the models agree on about `CONSENSUS` anchors, and some models projected to it.

    It changes the store: what is there is not made again.
    """
    k = min(CONSENSUS, store.snapshot().count)
    sets = f"SELECT anchor_set FROM catalog.main.anchors GROUP BY ALL HAVING count(*) = {k}"
    if not len(store.sql(sets)):
        store.select_anchors(k=k)
    anchors = store.sql(sets)["anchor_set"][0]
    with store._writing("a consensus") as writer:
        space = open_space(writer, "aligned", anchors)
        if space.targets is None:
            raise RuntimeError("no consensus was better than the anchors themselves")
        sides = [space.side_of(writer.snapshot(), model) for model in models]
        project_models(writer, space, sides)


class Cost(NamedTuple):
    """Seconds of the first call, median seconds of the warm ones, and of all threads, GiB.

    answer: what a measurement says, if it is one.
    """

    first: float
    wall: float
    cpu: float
    peak: float
    answer: str = ""

    def __str__(self) -> str:
        times = f"{self.wall:.3g}  {self.cpu:.3g}  {self.peak:.2f}"
        return f"{self.answer}{self.first:.3g}  {times}"


def measure(name: str, path: Path) -> Cost:
    """One query, in this process."""
    store = Store.open(path)
    answers: list[object] = []
    if name in WHOLE:
        spent = [timed(lambda: answers.append(WHOLE[name](store)))]
    else:
        query = INTERACTIVE[name]
        spent = [timed(partial(query, store, id_)) for id_ in some_ids(store, CALLS)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    wall, cpu = (statistics.median(times) for times in zip(*(spent[1:] or spent), strict=True))
    said = f"{answers[0]:.3f}: " if answers and isinstance(answers[0], float) else ""
    return Cost(spent[0][0], wall, cpu, peak, said)


def _neighbours_of_atoms(store: Store) -> float:
    """Written to a file; the recall that it says."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "near.parquet"
        store.write_answer(path, Store.neighbours, model=ONE, k=10, level="atom")
        said = parquet.read_metadata(path)
        print(f"{said.num_rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB", flush=True)
        return float(said.metadata.get(b"recall", 1))


def _recall(store: Store, where: str | None, queries: int = 30) -> float:
    """Of the ten atoms most alike, how many `similar` finds as near as a scan does."""
    snapshot = store.snapshot()
    table = lookup.vector_table(snapshot, lookup.model_layer(snapshot, ONE), "atom")
    ids = some_ids(store, queries)
    found = [store.similar(id_, site=0, model=ONE, where=where) for id_ in ids]
    if any(len(one) != 10 for one in found):
        raise RuntimeError("fewer than ten answers")
    rows = [snapshot.of_structure(table, id_) for id_ in ids]
    vectors = np.stack([one.vectors[one.column("site_index") == 0][0] for one in rows])
    own = np.array(ids)
    may = None if where is None else set(lookup.matching(snapshot, where, "structure").iloc[:, 0])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    best = np.full((queries, 10), 2, dtype=np.float32)
    for points in snapshot.stream(table):
        far = 1 - unit @ (points.vectors / np.maximum(points.lengths, 1e-30)[:, None]).T
        is_one = points.is_distinct
        structures = points.column("structure_id")
        if may is not None:
            is_one = is_one & np.array([id_ in may for id_ in structures])
        far[:, ~is_one] = 2
        # Its own orbit: sites equivalent to the first.
        far[(own[:, None] == structures) & (points.column("orbit") == 0)] = 2
        best = np.sort(np.hstack([best, far]), axis=1)[:, :10]
    hits = [
        (one["distance"] <= row[-1] + 2e-6).mean() for one, row in zip(found, best, strict=True)
    ]
    return float(np.mean(hits))


def prepared(
    folder: Path, atoms: int, models: int, like: Path | None, half: bool, anchors: int
) -> tuple[Path, str]:
    """The store of that size, with anchors and a space if it has two models; what it took."""
    kind = f"{'-half' * half}{'-like-' + like.stem if like else ''}"
    path = folder / f"{atoms}-{models}{kind}.store"
    said = []
    if not path.exists():
        spent = timed(lambda: make(path, atoms, models, like, half=half))
        said.append("made and indexed in {:.0f} s ({:.0f} of cpu)".format(*spent))
        if models > 1:
            store = Store.open(path)
            store.select_anchors(k=anchors)
            spent = timed(lambda: store.project(recipe="cosine"))
            said.append("projected in {:.0f} s ({:.0f} of cpu)".format(*spent))
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    said.append(f"{size / 1e9:.2f} GB on disk, peak {peak:.2f} GiB")
    snapshot = Store.open(path).snapshot()
    said.append(f"after clean-up, MB: {megabytes(snapshot, snapshot.manifest.files())}")
    for table in snapshot.tables:
        found = snapshot.search(table)
        if found.rows:
            times = f", {found.refine} times as many candidates" * (found.refine > 1)
            said.append(f"{table.name}: {found.probes} probes{times}, recall@10 {found.recall}")
    return path, "; ".join(said)


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
    parser.add_argument("--models", type=int, default=2)
    parser.add_argument("--like", type=Path, help="a store whose embeddings are the templates")
    parser.add_argument("--half", action="store_true", help="store vectors in half precision")
    parser.add_argument("--anchors", type=int, default=512, help="coordinates of the shared space")
    parser.add_argument("--folder", type=Path, default=Path(gettempdir()) / "platonic-scale")
    parser.add_argument("--only", default="", help="queries whose name holds this word")
    asked = parser.parse_args()
    paths = {}
    for atoms in asked.atoms:
        paths[atoms], said = _apart(
            prepared,
            asked.folder,
            atoms,
            asked.models,
            asked.like,
            asked.half,
            asked.anchors,
        )
        print(f"{atoms:,} atoms: {said}", flush=True)
    title = "synthetic stores, {} cores; seconds of the first call, warm, of cpu; GiB"
    table = Table(title=title.format(usable_cores()))
    table.add_column("query")
    for atoms in asked.atoms:
        table.add_column(f"{atoms:,} atoms", justify="right")
    table.add_column("exponent", justify="right")
    names = [name for name in (*INTERACTIVE, *WHOLE) if asked.only in name]
    # Typicality last: it reads the reference that `score` makes.
    for name in sorted(names, key=lambda name: "typicality" in name):
        if asked.models < 2 and any(word in name for word in PAIRS):
            continue
        costs = [_apart(measure, name, path) for path in paths.values()]
        slope = f"{exponent(asked.atoms, costs):.2f}" if len(costs) > 1 else ""
        table.add_row(name, *map(str, costs), slope)
        print(name, *costs, slope, sep=" | ", flush=True)
    Console(width=120).print(table)
    print(f"load average while measuring: {os.getloadavg()[1]:.1f} on {usable_cores()} cores")


if __name__ == "__main__":
    main()
