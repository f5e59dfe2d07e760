"""SIGKILL at random moments of real work: `soak.py [--kills 1000] [--seed 0] [--crystals 150]`

Ingest with real workers, anchors, projection, scores, deletion, annotation and doctor, each in a
process of its own, which is killed at a random moment; then the same again, until it is done. At
the end the store must hold what an undisturbed one holds, and `doctor(deep=True)` must find
nothing; then the next store. Where something is wrong the folder stays, and the exit code is 1.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import ase.io
import numpy as np

from benchmarks.made_crystals import crystals
from platonic_store.runtimes.cores import usable_cores
from platonic_store.storage import bulk
from platonic_store.store import Store

MODELS = ("control:composition", "control:soap")
SOONEST = 0.05  # of a step's undisturbed time: a kill falls between this and LATEST
LATEST = 1.5
# Ids that each store gives anew.
IGNORED = {"chunk_id"}
CATALOGUE = {
    "structures": "SELECT * EXCLUDE (added_at) FROM catalog.main.structures",
    "sources": "SELECT uri, structure_id FROM catalog.main.source_structures AS m "
    "JOIN catalog.main.sources AS s ON s.id = m.source_id",
    "embedded": "SELECT table_name, structure_id FROM catalog.main.table_appends "
    "JOIN catalog.main.chunk_structures USING (chunk_id)",
    "anchors": "FROM catalog.main.anchors",
    "projections": "SELECT space, model, layer FROM catalog.main.projections",
    "references": "SELECT id, model, layer, among, seed FROM catalog.main.reference_sets",
    "quarantine": "SELECT record, structure_id, model, reason FROM catalog.main.quarantined",
    **{table: f"FROM {table}" for table in bulk.SCHEMAS},
}
_context = get_context("forkserver")
_context.set_forkserver_preload(["platonic_store.jobs.project", "platonic_store.structures"])


class Pool:
    """The crystals of a run: `first`, of which `victims` are deleted, `rest`, and `new` ones that
    an annotation brings."""

    def __init__(self, size: int, seed: int):
        made = list(crystals(size, seed).items())
        self.first, self.rest = dict(made[: 2 * size // 3]), dict(made[2 * size // 3 :])
        self.victims = list(self.first)[-size // 10 :]
        self.anchors = list(self.first)[: size // 5]
        self.new = crystals(size // 10, seed + 1_000_000, "new")


def ingest_first(store: Store, pool: Pool, _: Path) -> None:
    store.ingest(pool.first, MODELS)


def select_anchors(store: Store, pool: Pool, folder: Path) -> None:
    file = folder / "anchors.csv"
    rows = ["structure_id,site_index", *(f"{id_},0" for id_ in pool.anchors)]
    file.write_text("\n".join(rows) + "\n")
    store.select_anchors(file=file)


def project(store: Store, *_: object) -> None:
    store.project(recipe="cosine")


def score(store: Store, *_: object) -> None:
    store.score()


def delete(store: Store, pool: Pool, _: Path) -> None:
    here = set(store.sql("SELECT structure_id FROM structure")["structure_id"])
    if left := [id_ for id_ in pool.victims if id_ in here]:
        assert left == pool.victims, f"deleted in parts: {len(left)} of {len(pool.victims)} left"
        store.delete(left)


def ingest_rest(store: Store, pool: Pool, _: Path) -> None:
    store.ingest(pool.rest, MODELS)


def annotate(store: Store, pool: Pool, folder: Path) -> None:
    target = folder / "target.extxyz"
    if not target.exists():
        records = [*list(pool.rest.values())[:10], *pool.new.values()]
        ase.io.write(folder / "new.extxyz", records)
        (folder / "new.extxyz").rename(target)
    store.annotate(target)


def doctor(store: Store, *_: object) -> None:
    problems = store.doctor()["problems"]
    assert problems == [], problems


STEPS: list[Callable[[Store, Pool, Path], None]] = [
    *(ingest_first, select_anchors, project, score, delete),
    *(ingest_rest, project, score, annotate, doctor),
]


def _step(number: int, folder: Path, size: int, seed: int) -> None:
    """One step, in a process of its own."""
    with (folder / "output.txt").open("a") as file, redirect_stdout(file), redirect_stderr(file):
        STEPS[number](Store.open(folder / "killed.store"), Pool(size, seed), folder)


def killed(number: int, folder: Path, size: int, seed: int, seconds: float | None) -> bool:
    """Run a step, and kill it after so many seconds; whether that was before its end.

    Raises: AssertionError if it failed.
    """
    process = _context.Process(target=_step, args=(number, folder, size, seed))
    process.start()
    process.join(seconds)
    process.kill()  # which does nothing if it ended
    process.join()
    if process.exitcode == -9:
        return True
    name = STEPS[number].__name__
    assert process.exitcode == 0, f"{name} failed; see {folder / 'output.txt'}"
    return False


def content(folder: Path) -> dict[str, Any]:
    """All that a store and the annotated file hold, comparable with `differences`."""
    snapshot = Store.open(folder / "killed.store").snapshot()
    found: dict[str, Any] = {
        name: sorted(map(repr, snapshot.rows(sql))) for name, sql in CATALOGUE.items()
    }
    for table in snapshot.tables:
        points = snapshot.points(table)
        columns = [name for name in points.keys.column_names if name not in IGNORED]
        keys = list(zip(*(points.keys[name].to_pylist() for name in columns), strict=True))
        order = sorted(range(len(keys)), key=keys.__getitem__)
        found[table.name] = [repr(keys[row]) for row in order]
        found[f"{table.name}, vectors"] = points.vectors[order]
    atoms = ase.io.read(folder / "target.extxyz", ":")
    found["annotations"] = [repr(sorted(one.info.items())) for one in atoms]
    return found


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """In what a store differs from an undisturbed one, a line each."""
    lines = [f"{name}: only in one of them" for name in {*found} ^ {*expected}]
    for name in sorted({*found} & {*expected}):
        one, other = found[name], expected[name]
        if isinstance(one, np.ndarray):
            # Matrix products of other sizes may round the last bit elsewhere.
            if one.shape != other.shape or not np.allclose(one, other, rtol=0, atol=1e-6):
                lines.append(f"{name}: not the same numbers")
        elif one != other:
            lost, added = Counter(other) - Counter(one), Counter(one) - Counter(other)
            some = [*lost, *added][:2]
            lines.append(f"{name}: {lost.total()} lost, {added.total()} too many, such as {some}")
    return lines


def undisturbed(folder: Path, size: int, seed: int) -> tuple[dict[str, Any], list[float]]:
    """What the store must hold at the end, and the seconds of each step."""
    folder.mkdir()
    seconds = []
    for number in range(len(STEPS)):
        start = time.monotonic()
        killed(number, folder, size, seed, None)
        seconds.append(time.monotonic() - start)
    return content(folder), seconds


def disturbed(
    folder: Path, size: int, seed: int, seconds: list[float], dice: random.Random, kills: int
) -> Counter[str]:
    """All steps, each killed now and then, at most `kills` times; how often each was."""
    folder.mkdir()
    count: Counter[str] = Counter()
    for number, usual in enumerate(seconds):
        while count.total() < kills:
            moment = usual * dice.uniform(SOONEST, LATEST)
            if not killed(number, folder, size, seed, moment):
                break
            count[STEPS[number].__name__] += 1
            if dice.random() < 0.1 and (folder / "killed.store" / "manifests").exists():
                problems = Store.open(folder / "killed.store").doctor(deep=True)["problems"]
                assert problems == [], f"after a kill of {STEPS[number].__name__}: {problems}"
        else:
            killed(number, folder, size, seed, None)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--crystals", type=int, default=150)
    asked = parser.parse_args()
    size, seed = asked.crystals, asked.seed
    folder, dice = Path(tempfile.mkdtemp(prefix="soak-")), random.Random(seed)
    print(f"seed {seed}, {asked.kills} kills, in {folder}", flush=True)
    expected, seconds = undisturbed(folder / "undisturbed", size, seed)
    print(
        "undisturbed:",
        ", ".join(
            f"{step.__name__} {took:.1f} s" for step, took in zip(STEPS, seconds, strict=True)
        ),
        flush=True,
    )
    count: Counter[str] = Counter()
    while (left := asked.kills - count.total()) > 0:
        path = folder / f"{count.total()}"
        try:
            count += disturbed(path, size, seed, seconds, dice, left)
            problems = differences(content(path), expected)
            problems += Store.open(path / "killed.store").doctor(deep=True)["problems"]
        except AssertionError as error:
            problems = [str(error)]
        if problems:
            sys.exit("\n".join([f"FAILED in {path} after {count.total()} kills:", *problems]))
        shutil.rmtree(path)
        print(f"{count.total()} kills so far, all well", flush=True)
    shutil.rmtree(folder)
    print(f"seed {seed}: {count.total()} kills, every store as an undisturbed one")
    print("interrupted:", ", ".join(f"{name} {n} times" for name, n in count.most_common()))
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"load averages now: {load} on {usable_cores()} cores")


if __name__ == "__main__":
    main()
