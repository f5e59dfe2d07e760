"""What ingest costs beside the models: `ingest.py [SOURCE] [--model NAME …] [--structures N …]`

Ingests the first N structures of a source, and all of it, each into a new store in a process of
its own, so that the peak memory (of the parent: workers are not counted) is that of one ingest.
`models' own seconds` is what the workers spent on graphs and forward passes, divided by their
number: what no store could be faster than. They are of wall clock, so where another model's
packages are imported beside them, or the source is read, they are longer for it. The workers' CPU
time, divided likewise, is what they used once they had loaded the model, which is not: the overhead
over it is the stricter one. All other times are seconds of wall clock. The source is
`builtin:aflow-prototypes` unless a path is given. `--not-forked`: each worker loads its model
itself, as all did before they were forked from one. `--timeline`: which process used how much of a
core in each half of a second.
"""

import argparse
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import psutil
from rich.console import Console
from rich.table import Table

from platonic_store.jobs import reading, turns
from platonic_store.jobs.runs import Run
from platonic_store.runtimes import forkserver, workers
from platonic_store.runtimes.cores import usable_cores
from platonic_store.runtimes.process import Worker
from platonic_store.storage import lance_tables
from platonic_store.store import Store
from platonic_store.structures.sources import records

MIB = 2**20 if sys.platform == "darwin" else 2**10  # of ru_maxrss, in bytes or in KiB
UNITS = {"parent's peak memory": " MiB", "overhead": " %", "rate": " atoms/s"}


@contextmanager
def timed(seconds: dict[str, float], **parts: tuple[Any, str]) -> Iterator[None]:
    """While the block runs, add up what each named function of an object takes."""

    def timing(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[part] = seconds.get(part, 0) + time.perf_counter() - start

        return run

    patches = [patch.object(o, name, timing(p, getattr(o, name))) for p, (o, name) in parts.items()]
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in patches:
            one.stop()


@contextmanager
def workers_time(seconds: dict[str, float]) -> Iterator[None]:
    """The CPU time of all workers from their first message to their end."""
    handshake, begun = Worker.handshake, dict[int, float]()
    stopped = workers._WorkerThread.stop

    def used(worker: Worker) -> float:
        times = psutil.Process(worker.pid).cpu_times()
        return float(times.user + times.system)

    def shaken(worker: Worker) -> dict[str, Any]:
        identity = handshake(worker)
        begun[worker.pid] = used(worker)
        return identity

    def stop(thread: Any) -> None:
        worker = thread._worker
        with suppress(psutil.Error):
            if worker is not None and worker.pid in begun:
                own = used(worker) - begun.pop(worker.pid)
                seconds["workers"] = seconds.get("workers", 0) + own
        stopped(thread)

    with (
        patch.object(Worker, "handshake", shaken),
        patch.object(workers._WorkerThread, "stop", stop),
    ):
        yield


@contextmanager
def cpu_time(seconds: dict[str, float], timeline: bool) -> Iterator[None]:
    """The CPU time of this process and all that descend from it, sampled: some are killed."""
    seen: dict[tuple[int, float], float] = {}
    begun, stop = time.monotonic(), threading.Event()

    def sample() -> None:
        this = psutil.Process()
        while True:
            is_last = stop.wait(0.5)
            for process in (this, *this.children(recursive=True)):
                with suppress(psutil.Error):
                    times, key = process.cpu_times(), (process.pid, process.create_time())
                    before, seen[key] = seen.get(key, 0.0), times.user + times.system
                    if timeline and seen[key] - before > 0.05:
                        print(
                            f"{time.monotonic() - begun:6.1f} s  {process.pid}, of "
                            f"{process.ppid()}: {seen[key] - before:.2f} s of CPU"
                        )
            if is_last:
                seconds["sampling"] = time.thread_time()
                return

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        seconds["cpu"] = sum(seen.values()) - seconds.pop("sampling")


def first(structures: int | None) -> Callable[..., Iterator[Any]]:
    """The records of a source, at most so many."""

    def run(source: Any, format: str | None) -> Iterator[Any]:
        return islice(records(source, format), structures)

    return run


def measure(
    source: str, models: list[str], structures: int | None, is_forked: bool, timeline: bool
) -> dict[str, float]:
    """One ingest, then a projection and two searches, in this process."""
    part: dict[str, float] = {}
    if not is_forked:
        for module in (forkserver, workers):
            patch.object(module, "may_fork", lambda _device: False).start()
    with TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "store")
        with (
            patch.object(reading, "records_of", first(structures)),
            cpu_time(part, timeline),
            workers_time(part),
            timed(
                part,
                reading=(reading.Reading, "structures"),
                choosing=(turns.Turns, "first_ready"),
                starting=(workers.WorkerPool, "_first_identity"),
                commits=(Run, "commit"),
                compaction=(lance_tables, "maintain"),
                ingest=(store, "ingest"),
            ),
        ):
            report, runs = store.ingest(source, models)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB
        assert report is not None
        own = sum(run.seconds_graph + run.seconds_forward for run in runs) / usable_cores()
        own_cpu = part["workers"] / usable_cores()
        sites = sum(run.sites for run in runs)
        with timed(
            part,
            anchors=(store, "select_anchors"),
            project=(store, "project"),
            outliers=(store, "outliers"),
        ):
            store.select_anchors(k=100)
            store.project()
            store.outliers()
        id_ = store.sql("SELECT structure_id FROM structure LIMIT 1")["structure_id"][0]
        with timed(part, similar=(store, "similar")):
            store.similar(id_, across=models[-1])
    waiting = part["starting"] + part.get("choosing", 0)
    loop = part["ingest"] - part["reading"] - part["starting"]
    return {
        "structures": report.new,
        "embeddings of atoms": sites,
        "ingest": part["ingest"],
        "  reading, until there is something to embed": part["ingest"] - loop - waiting,
        "  waiting for workers": waiting,
        "  embedding and all else": loop - part["commits"] - part["compaction"],
        "  commits": part["commits"],
        "  compaction": part["compaction"],
        "models' own seconds": own,
        "workers' CPU time": own_cpu,
        "CPU time of all processes": part["cpu"],
        "overhead": 100 * (part["ingest"] / own - 1),
        "overhead over the workers' CPU time": 100 * (part["ingest"] / own_cpu - 1),
        "overhead by CPU time": 100 * (part["cpu"] / part["workers"] - 1),
        "overhead, reading and waiting aside": 100 * (loop / own - 1),
        "rate": sites / part["ingest"],
        "parent's peak memory": peak,
        **{name: part[name] for name in ("anchors", "project", "outliers", "similar")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", default="builtin:aflow-prototypes")
    parser.add_argument("--model", action="append", help="default: sevennet-0 and chgnet-0.3.0")
    parser.add_argument("--structures", type=int, action="append", help="default: 700 and all")
    parser.add_argument("--not-forked", action="store_true")
    parser.add_argument("--timeline", action="store_true")
    asked = parser.parse_args()
    models = asked.model or ["sevennet-0", "chgnet-0.3.0"]
    sizes = asked.structures or ([700, None] if asked.source[:8] != "builtin:" else [100, None])
    columns = []
    for size in sizes:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            how = not asked.not_forked, asked.timeline
            columns.append(pool.submit(measure, asked.source, models, size, *how).result())
    title = f"{Path(asked.source).name}, {' and '.join(models)}, {usable_cores()} cores"
    table = Table("seconds, unless it says otherwise", title=title)
    for _ in columns:
        table.add_column(justify="right")
    for name in columns[0]:
        unit = next((unit for key, unit in UNITS.items() if name.startswith(key)), "")
        values = [column[name] for column in columns]
        table.add_row(name, *(f"{v:,.0f}{unit}" if unit or v > 1e3 else f"{v:.2f}" for v in values))
    Console().print(table)
    print(f"load average while measuring: {os.getloadavg()[1]:.1f} on {usable_cores()} cores")


if __name__ == "__main__":
    main()
