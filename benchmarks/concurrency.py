"""Readers beside a writer: `concurrency.py [--readers 16] [--seconds 300] [--portion 500]`

Two ingests of the same random crystals by two controls run for so many seconds, side by side, into
two stores. One store has readers at full speed, one SQL query that lasts as long, and a plain
DuckDB client that stays attached; nobody reads the other. Both writers have the same machine at the
same time under the same load: the ratio of their rates is what it costs a writer to be read. Fails
where a query fails, or an answer is not of one state.
"""

import argparse
import itertools
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import duckdb
from rich.console import Console
from rich.table import Table

from benchmarks.made_crystals import crystals
from platonic_store.errors import PlatonicError
from platonic_store.runtimes.cores import usable_cores
from platonic_store.store import Store

MODELS = ("control:composition", "control:soap")
QUERIES: list[Callable[[Store, str], object]] = [
    lambda store, id_: store.similar(id_),
    lambda store, id_: store.similar(id_, site=0),
    lambda store, id_: store.sql(f"FROM similar_structures('{id_}', model := '{MODELS[1]}')"),
    lambda store, id_: store.sql("SELECT count(*), avg(nsites) FROM structure"),
]
# A reader sees the structures that are embedded, all of them, or those of an earlier state.
STATE = "SELECT (SELECT count(*) FROM structure) AS structures, (SELECT count(*) FROM crystals)"
LONG = """
SELECT sum(hash(structure_id || i) % 2)::BIGINT, count(*), any_value(n) * {times}
FROM structure, range({times}) AS repeats(i), (SELECT count(*) AS n FROM structure)
"""
LONG_PART = 3.0  # seconds of the query from which the length of the long one is reckoned
FIRST = 10  # queries of a reader that import and read what the others find in memory


class Read(NamedTuple):
    """What became of a reader: the seconds of its queries, and what failed."""

    seconds: list[float]
    failures: list[str]


class Ingested(NamedTuple):
    structures: int
    seconds: float


def ingest(path: Path, other: Path, seconds: float, portion: int) -> Ingested:
    """Ingest portions of new crystals, one after the other, until the other writer is measured too.

    What it does after its own time is only load.
    """
    store, measured = Store.open(path), None
    start = time.monotonic()
    for number in itertools.count(1):
        store.ingest(crystals(portion, number, f"{number}-"), MODELS)
        elapsed = time.monotonic() - start
        if measured is None and elapsed > seconds:
            measured = Ingested(number * portion, elapsed)
            _measured(path).touch()
        if measured is not None and _measured(other).exists():
            return measured
    raise AssertionError("unreachable")


def _measured(path: Path) -> Path:
    return path.with_suffix(".measured")


def read(path: Path, seed: int, end: Path) -> Read:
    """Ask one thing after the other, as fast as it goes, until there is a file `end`."""
    store, ids = Store.open(path), list(crystals(200, 0, "0-"))
    seconds: list[float] = []
    failures: list[str] = []
    last = 0
    for number in itertools.count(seed):
        if end.exists():
            return Read(seconds, failures)
        start = time.perf_counter()
        try:
            if number % 5 == 4:
                (structures, whole), *_ = store.sql(STATE).itertuples(index=False)
                if structures != whole or structures < last:
                    failures.append(f"{structures} structures, {whole} crystals, before {last}")
                last = structures
            else:
                QUERIES[number % 5](store, ids[number % len(ids)])
        except (PlatonicError, duckdb.Error, OSError) as error:
            failures.append(f"{type(error).__name__}: {error}")
        seconds.append(time.perf_counter() - start)
    raise AssertionError("unreachable")


def ask_long(path: Path, seconds: float) -> Read:
    """One SQL query of about so many seconds. Its parts must agree on the state that it sees."""
    store, times, took = Store.open(path), 1_000, 0.0
    while took < LONG_PART:
        times *= 2
        took = min(_seconds(store, times) for _ in range(2))
    times = int(times * max(1.2 * seconds / took, 1))
    start, failures = time.perf_counter(), []
    try:
        ((_, rows, expected),) = store.sql(LONG.format(times=times)).itertuples(index=False)
        if rows != expected:
            failures.append(f"{rows} rows, not {expected}")
    except (PlatonicError, duckdb.Error, OSError) as error:
        failures.append(f"{type(error).__name__}: {error}")
    return Read([time.perf_counter() - start], failures)


def _seconds(store: Store, times: int) -> float:
    start = time.perf_counter()
    store.sql(LONG.format(times=times))
    return time.perf_counter() - start


def attach(path: Path, end: Path) -> Read:
    """Stay attached with the plain client, and ask now and then: what it sees never changes."""
    connection = duckdb.connect()
    connection.execute(Store.open(path).init_sql())
    answers, seconds, failures = set(), [], []
    while not end.exists():
        time.sleep(1)
        start = time.perf_counter()
        try:
            answers.add(connection.execute(STATE).fetchone())
            connection.execute("FROM similar_structures('c0-0')").fetchall()
        except duckdb.Error as error:
            failures.append(f"{type(error).__name__}: {error}")
        seconds.append(time.perf_counter() - start)
    if len(answers) != 1:
        failures.append(f"the plain client saw {answers}")
    return Read(seconds, failures)


def show(
    beside: Ingested, alone: Ingested, reads: list[Read], long: Read, client: Read
) -> list[str]:
    """The table; returns what failed."""
    table = Table(title=f"{len(reads)} readers beside an ingest on {usable_cores()} cores")
    table.add_column("")
    table.add_column(justify="right")
    rates = [one.structures / one.seconds for one in (beside, alone)]
    waits = [wait for one in reads for wait in one.seconds[FIRST:]]
    failures = [failure for one in (*reads, long, client) for failure in one.failures]
    table.add_row("structures ingested a second, of the store that is read", f"{rates[0]:.1f}")
    table.add_row("of the store that nobody reads, at the same time", f"{rates[1]:.1f}")
    table.add_row("ratio", f"{rates[0] / rates[1]:.3f}")
    table.add_row("queries", f"{len(waits):,}")
    table.add_row("median, ms", f"{1000 * statistics.median(waits):.0f}")
    table.add_row("99.9 %, ms", f"{1000 * _quantile(waits):.0f}")
    table.add_row("longest, ms", f"{1000 * max(waits):.0f}")
    table.add_row("the long query, s", f"{long.seconds[0]:.0f}")
    table.add_row("the plain client's queries", f"{len(client.seconds)}")
    table.add_row("failures", f"{len(failures)}")
    Console(width=100).print(table)
    return failures


def _quantile(times: list[float]) -> float:
    return sorted(times)[int(0.999 * (len(times) - 1))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--portion", type=int, default=500, help="crystals of one ingest")
    asked = parser.parse_args()
    processes = partial(ProcessPoolExecutor, mp_context=get_context("spawn"))
    with tempfile.TemporaryDirectory() as name, processes(asked.readers + 4) as pool:
        written, unread, end = (Path(name) / f"{word}.store" for word in ("read", "unread", "end"))
        Store.open(written).ingest(crystals(asked.portion, 0, "0-"), MODELS)
        shutil.copytree(written, unread)
        reads = [pool.submit(read, written, seed, end) for seed in range(asked.readers)]
        long = pool.submit(ask_long, written, asked.seconds)
        client = pool.submit(attach, written, end)
        try:
            ingests = [
                pool.submit(ingest, one, other, asked.seconds, asked.portion)
                for one, other in ((written, unread), (unread, written))
            ]
            beside, alone = (one.result() for one in ingests)
            long.result()
        finally:
            end.touch()
        readers = [one.result() for one in reads]
        failures = show(beside, alone, readers, long.result(), client.result())
    print("load averages now:", ", ".join(f"{load:.1f}" for load in os.getloadavg()))
    if failures:
        sys.exit("\n".join(failures[:20]))


if __name__ == "__main__":
    main()
