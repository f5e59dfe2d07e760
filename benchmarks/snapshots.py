"""What published snapshots reach: `snapshots.py STORE [--large STORE] [--before PYTHON STORE …]`

STORE is a real store, best of 7,118 structures and two models. `--before` names the interpreter of
another version and its store (and its large one), whose numbers stand beside; it may be given
several times. Stores that are large are made by `scale.py --atoms 444225 --only none` of each
version, of synthetic crystals. All stores are copied first, for to ask an older one converts it.

Numbers are medians, and the smallest in brackets.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks import publishing
from benchmarks.s3_server import bucket
from benchmarks.warm import QUERIES
from platonic_store.runtimes.cores import usable_cores
from platonic_store.store import Store

AIMS = dict(zip(QUERIES, ((10, 20), (15, 30), (10, 25), (15, 35), (3, 3), (10, 15)), strict=True))
COMMANDS = {"similar": 1.2, 'sql "SELECT 1"': 0.6}
PUBLISHING = {7_118: 0.1, 100_000: 0.3, 1_000_000: 2.0}
COLD, AGAIN = 2.0, 0.05
CALLS, ROUNDS = 7, 3


class Version(NamedTuple):
    """An interpreter that has a version of the program, and stores that are its own."""

    python: str
    stores: list[Path]

    @property
    def command(self) -> str:
        return str(Path(self.python).with_name("platonic-store"))

    def run(self, script: str, *arguments: str | Path, **environment: str) -> Any:
        """The JSON that one of the scripts beside this one prints."""
        path = Path(__file__).with_name(script)
        command = [self.python, str(path), *map(str, arguments)]
        return json.loads(subprocess.check_output(command, env=os.environ | environment))


def column(name: str, versions: list[Version]) -> Table:
    table = Table(title=name)
    table.add_column("")
    for number in range(len(versions) - 1):
        table.add_column(f"before {number + 1}" if len(versions) > 2 else "before", justify="right")
    table.add_column("now", justify="right")
    table.add_column("aim", justify="right")
    return table


def shown(numbers: list[float], form: str) -> str:
    return f"{statistics.median(numbers):{form}} ({min(numbers):{form}})"


def warm(versions: list[Version], which: int) -> Table:
    """Queries of one process."""
    count = Store.open(versions[-1].stores[which]).snapshot().manifest.structures
    name = f"warm, in process, {count:,} structures{', synthetic' if which else ''}, ms"
    table = column(name, versions)
    rounds = [[one.run("warm.py", one.stores[which]) for one in versions] for _ in range(ROUNDS)]
    for query, aims in AIMS.items():
        found = [[ms for times in one for ms in times[query]] for one in zip(*rounds, strict=True)]
        table.add_row(query, *(shown(times, ".1f") for times in found), f"{aims[which]}")
    return table


def command_line(versions: list[Version]) -> Table:
    """Whole commands, in turn by each version."""
    table = column("command line, seconds", versions)
    (id_,) = some_ids(versions[-1].stores[0], 1)
    commands = {"similar": ["similar", id_], 'sql "SELECT 1"': ["sql", "SELECT 1"]}
    for name, arguments in commands.items():
        seconds: list[list[float]] = [[] for _ in versions]
        for _ in range(CALLS):
            for times, one in zip(seconds, versions, strict=True):
                start = time.perf_counter()
                subprocess.run(
                    [one.command, *arguments],
                    env=os.environ | {"PLATONIC_STORE": str(one.stores[0])},
                    check=True,
                    capture_output=True,
                )
                times.append(time.perf_counter() - start)
        table.add_row(name, *(shown(times, ".2f") for times in seconds), f"{COMMANDS[name]}")
    return table


def some_ids(path: Path, count: int) -> list[str]:
    rows = Store.open(path).sql(f"FROM structure ORDER BY hash(structure_id) LIMIT {count}")
    return [str(id_) for id_ in rows["structure_id"]]


def published(folder: Path, sizes: list[int]) -> Table:
    """One more chunk of 256 structures."""
    table = Table(title="publishing, synthetic rows")
    for name in ("structures", "seconds", "catalogue, MB", "bytes a structure", "aim"):
        table.add_column(name, justify="right")
    for size in sizes:
        found = publishing.measure(folder, size)
        table.add_row(
            f"{size:,}",
            shown(found.seconds, ".2f"),
            f"{found.bytes_a_structure * size / 1e6:.1f}",
            f"{found.bytes_a_structure:.0f}",
            f"{PUBLISHING.get(size, '')}",
        )
    return table


def object_store(version: Version, folder: Path) -> Table:
    """`similar` on an S3 server, with an empty cache, and with what the first call left there."""
    table = Table(title="similar on moto's S3 server of this machine, seconds")
    for name in ("", "seconds", "aim"):
        table.add_column(name, justify="right")
    uri = "s3://bucket/mp.store"
    ids = some_ids(version.stores[0], 11)
    with bucket() as options:
        variables = {name.upper(): value for name, value in options.items()}
        start = time.perf_counter()
        Store.open(version.stores[0]).copy(uri, storage_options=options)
        table.add_row("copy the store there", f"{time.perf_counter() - start:.1f}", "")
        cold: list[float] = []
        again: list[float] = []
        filled: list[float] = []
        for trial in range(3):
            variables["PLATONIC_STORE_CACHE"] = str(folder / f"cache-{trial}")
            first, *rest = version.run("cold.py", uri, *ids, **variables)
            cold.append(first)
            again.extend(rest)
            filled.extend(version.run("cold.py", uri, ids[0], **variables))
    table.add_row("cold", shown(cold, ".2f"), f"{COLD}")
    table.add_row("a new process, from the cache", shown(filled, ".2f"), "")
    table.add_row("again", shown(again, ".3f"), f"{AGAIN}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--large", type=Path)
    parser.add_argument("--before", nargs="+", action="append", default=[], metavar="PATH")
    parser.add_argument("--publish", type=int, nargs="*", default=list(PUBLISHING))
    asked = parser.parse_args()
    large = [asked.large] if asked.large else []
    given = [*asked.before, [sys.executable, asked.store, *large]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        versions = [
            Version(python, [_copied(folder, number, Path(one)) for one in stores])
            for number, (python, *stores) in enumerate(given)
        ]
        show(warm(versions, 0))
        if large:
            show(warm([one for one in versions if len(one.stores) > 1], 1))
        show(command_line(versions))
        show(object_store(versions[-1], folder))
        show(published(folder, asked.publish))


def _copied(folder: Path, number: int, store: Path) -> Path:
    return Path(shutil.copytree(store, folder / str(number) / store.name))


def show(table: Table) -> None:
    Console(width=120).print(table)
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"load averages now: {load} on {usable_cores()} cores", flush=True)


if __name__ == "__main__":
    main()
