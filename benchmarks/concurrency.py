"""Readers beside a writer: `concurrency.py [--readers 16] [--seconds 300] [--portion 500]`

An ingest of random crystals by two controls runs for so many seconds, with readers at full speed
beside it, one SQL query that lasts as long, and a plain DuckDB client that stays attached: once
while all of them read another store, the same load without anything in common, and once while they
read the store that is written. Fails where a query fails, or an answer is not of one state.
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
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import duckdb
from made_crystals import crystals
from rich.console import Console
from rich.table import Table

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


class Phase(NamedTuple):
    ingested: Ingested
    reads: list[Read]
    long: Read
    client: Read


def ingest(path: Path, seconds: float, portion: int) -> Ingested:
    """Ingest portions of new crystals, one after the other."""
    store = Store.open(path)
    start = time.monotonic()
    for number in itertools.count(1):
        store.ingest(crystals(portion, number, f"{number}-"), MODELS)
        if (elapsed := time.monotonic() - start) > seconds:
            return Ingested(number * portion, elapsed)
    raise AssertionError("unreachable")


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


def phase(written: Path, asked: Path, readers: int, seconds: float, portion: int) -> Phase:
    """An ingest into one store while another, or the same, is read."""
    end = written.with_suffix(".end")
    with ProcessPoolExecutor(readers + 2, mp_context=get_context("spawn")) as pool:
        reads = [pool.submit(read, asked, seed, end) for seed in range(readers)]
        long, client = pool.submit(ask_long, asked, seconds), pool.submit(attach, asked, end)
        try:
            ingested = ingest(written, seconds, portion)
            long.result()
        finally:
            end.touch()
        return Phase(ingested, [one.result() for one in reads], long.result(), client.result())


def show(apart: Phase, together: Phase, readers: int) -> list[str]:
    """The table; returns what failed."""
    table = Table(title=f"{readers} readers beside an ingest on {usable_cores()} cores")
    for name in ("", "of another store", "of the same store"):
        table.add_column(name, justify="right")
    phases = (apart, together)
    rates = [one.ingested.structures / one.ingested.seconds for one in phases]
    waits = [[wait for read in one.reads for wait in read.seconds[FIRST:]] for one in phases]
    failures = [
        failure
        for one in phases
        for read in (*one.reads, one.long, one.client)
        for failure in read.failures
    ]
    table.add_row("structures ingested a second", *(f"{rate:.1f}" for rate in rates))
    table.add_row("slower", "", f"{100 * (1 - rates[1] / rates[0]):.1f} %")
    table.add_row("queries", *(f"{len(one):,}" for one in waits))
    table.add_row("median, ms", *(f"{1000 * statistics.median(one):.0f}" for one in waits))
    table.add_row("99.9 %, ms", *(f"{1000 * _quantile(one):.0f}" for one in waits))
    table.add_row("longest, ms", *(f"{1000 * max(one):.0f}" for one in waits))
    table.add_row("the long query, s", *(f"{one.long.seconds[0]:.0f}" for one in phases))
    table.add_row("the plain client's queries", *(f"{len(one.client.seconds)}" for one in phases))
    table.add_row("failures", f"{len(failures)} in all", "")
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
    with tempfile.TemporaryDirectory() as name:
        first = Path(name) / "first.store"
        Store.open(first).ingest(crystals(asked.portion, 0, "0-"), MODELS)
        other, same = (Path(shutil.copytree(first, Path(name) / f"{i}.store")) for i in "ab")
        found = [
            phase(written, read, asked.readers, asked.seconds, asked.portion)
            for written, read in ((other, first), (same, same))
        ]
    failures = show(found[0], found[1], asked.readers)
    print("load averages now:", ", ".join(f"{load:.1f}" for load in os.getloadavg()))
    if failures:
        sys.exit("\n".join(failures[:20]))


if __name__ == "__main__":
    main()
