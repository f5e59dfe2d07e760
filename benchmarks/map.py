"""How well the map keeps neighbours, and what it costs: `map.py STORE`, `map.py --atoms N`.

Of a store, structures and distinct atoms (at most `--points` of them, by content): their consensus
is laid out by PCA, t-SNE (openTSNE), UMAP and PaCMAP, those that are installed, each in a process
of its own. Trustworthiness and continuity (10 neighbours, a sample of 3,000), and recall@10, the
share of a point's ten nearest that are its ten nearest on the map, of 1,500 points among all.
`placed` is that of points that were held out, a tenth and 1,000 at most, among those that were
fitted: by `place`, and by the library's own transform. Neighbours are by cosine, as `similar` finds
them.

With `--atoms N` a synthetic store (see synthetic_store.py) of N atoms and `--models` M is made,
kept in `--folder` for the next run, and mapped: seconds and peak memory, the same again, and what
it takes to place a new crystal of twenty atoms.
"""

import argparse
import importlib.util
import resource
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import gettempdir
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.manifold import trustworthiness
from sklearn.neighbors import NearestNeighbors

from benchmarks.synthetic_store import make
from platonic_store.geometry import layout
from platonic_store.geometry.layout import Layout, place
from platonic_store.jobs import map as job
from platonic_store.storage import lookup
from platonic_store.storage.layout import Level
from platonic_store.store import Store

K, SAMPLE, ASKED, HELD_OUT = 10, 3_000, 1_500, 1_000
NEEDS = {"PCA": "numpy", "t-SNE": "openTSNE", "UMAP": "umap", "PaCMAP": "pacmap"}


class Result(NamedTuple):
    """trust, continuity, recall of the fit; recall of held-out points; seconds; GiB."""

    trust: float
    continuity: float
    recall: float
    placed: float
    transformed: float | None
    wall: float
    cpu: float
    peak: float


def laid_out(method: str, points: np.ndarray) -> tuple[np.ndarray, Callable[..., Any] | None]:
    """(n, 2) positions, and what places new points, if the method has that."""
    if method == "PCA":
        return layout._flat(points), None
    if method == "t-SNE":
        from openTSNE import TSNE

        fitted = TSNE(perplexity=layout.PERPLEXITY, random_state=0, n_jobs=1).fit(points)
        return np.asarray(fitted), fitted.transform
    if method == "UMAP":
        from umap import UMAP

        reducer = UMAP(random_state=0).fit(points)
        return np.asarray(reducer.embedding_), reducer.transform
    from pacmap import PaCMAP

    reducer = PaCMAP(random_state=0, apply_pca=False)
    flat = reducer.fit_transform(points)
    return np.asarray(flat), lambda new: reducer.transform(new, basis=points)


def measure(method: str, points: np.ndarray) -> Result:
    """One method, in this process."""
    rng = np.random.default_rng(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    flat, _ = laid_out(method, points)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    few = rng.choice(len(points), min(SAMPLE, len(points)), replace=False)
    trust = trustworthiness(points[few], flat[few], n_neighbors=K)
    continuity = trustworthiness(flat[few], points[few], n_neighbors=K)
    asked = few[:ASKED]
    recall = _recall(points, points[asked], flat, flat[asked], skip=1)

    out = np.zeros(len(points), dtype=bool)
    out[rng.choice(len(points), min(HELD_OUT, len(points) // 10), replace=False)] = True
    known, new = points[~out], points[out]
    flat, transform = laid_out(method, known)
    size = known.shape[1]
    same = np.zeros(size, dtype=np.float32), np.eye(size, dtype=np.float32)
    own = Layout(*same, known, flat.astype(np.float32))
    placed = _recall(known, new, flat, place(own, new))
    other = None if transform is None else np.asarray(transform(new))
    transformed = None if other is None else _recall(known, new, flat, other)
    return Result(trust, continuity, recall, placed, transformed, wall, cpu, peak)


def _recall(
    points: np.ndarray, asked: np.ndarray, flat: np.ndarray, where: np.ndarray, skip: int = 0
) -> float:
    near = [
        NearestNeighbors(n_neighbors=K + skip, algorithm="brute").fit(a).kneighbors(b)[1]
        for a, b in ((points, asked), (flat, where))
    ]
    shared = (len({*a} & {*b}) - skip for a, b in zip(*near, strict=True))
    return float(np.mean([*shared])) / K


def compare(path: Path, most: int) -> None:
    """The table of the methods on a store."""
    snapshot = Store.open(path).snapshot()
    space = job._space(snapshot)
    levels: tuple[Level, ...] = ("structure", "atom")
    job.FITTED = most
    for level in levels:
        tables = [one for one in snapshot.tables if (one.space, one.level) == (space, level)]
        agreed = job._agreed(snapshot, space, tables)
        points = job._consensus(snapshot, agreed, job._sample(snapshot, agreed, level), level)
        table = _table(f"{len(points):,} {level}s", "method", *Result._fields)
        for method, package in NEEDS.items():
            if importlib.util.find_spec(package):
                table.add_row(method, *map(_text, _apart(measure, method, points)))
        Console(width=110).print(table)


def mapped(path: Path) -> tuple[float, float, float]:
    """Seconds, seconds of all threads, and GiB of `map`, in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    Store.open(path).map()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def dropped(path: Path) -> tuple[float, float]:
    """Seconds to place twenty atoms: in a process that has read no layout, and again."""
    snapshot = Store.open(path).snapshot()
    spent = []
    for _ in range(2):
        start = time.perf_counter()
        fitted = lookup.layout(snapshot)
        place(fitted, np.random.default_rng(0).standard_normal((20, len(fitted.centre))))
        spent.append(time.perf_counter() - start)
    return spent[0], spent[1]


def timed(folder: Path, atoms: int, models: int) -> None:
    """The times of a synthetic store."""
    path = folder / f"map-{atoms}-{models}.store"
    if not path.exists():
        store = make(path, atoms, models)
        store.select_anchors(k=1024)
        store.project()
    own = path.with_suffix(".mapped")
    shutil.rmtree(own, ignore_errors=True)
    shutil.copytree(path, own)
    table = _table(f"{atoms:,} atoms × {models} models", "what", "seconds", "cpu", "GiB")
    table.add_row("map", *map(_text, _apart(mapped, own)))
    table.add_row("map again", *map(_text, _apart(mapped, own)))
    first, again = _apart(dropped, own)
    table.add_row("place 20 atoms, first / again", f"{first:.3f} / {again:.3f}", "", "")
    Console().print(table)


def _apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a process of its own. This one stays small: a child begins with its peak."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if value < 10 else f"{value:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", nargs="?", type=Path)
    parser.add_argument("--points", type=int, default=8_000)
    parser.add_argument("--atoms", type=int)
    parser.add_argument("--models", type=int, default=6)
    parser.add_argument("--folder", type=Path, default=Path(gettempdir()))
    given = parser.parse_args()
    if given.store:
        compare(given.store, given.points)
    if given.atoms:
        timed(given.folder, given.atoms, given.models)


if __name__ == "__main__":
    main()
