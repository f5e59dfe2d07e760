"""kill -9 at any moment: nothing twice, nothing lost that was acknowledged, and the same end."""

import os
import random
import signal
import time
from collections import Counter
from datetime import timedelta
from functools import partial
from pathlib import Path

import psutil
import pytest
from kill_points import Deadly
from store_driver import Driver
from store_fakes import MODELS, content, crystals, embedded, know_fakes, pipeline

from platonic_store.storage import bulk, cleanup, writer
from platonic_store.storage.damage import damaged
from platonic_store.storage.manifest import Manifest
from platonic_store.storage.verification import verify
from platonic_store.store import Store


def start(path: Path, **options) -> Driver:
    """The driver, ready to write."""
    process = Driver(path, **options)
    assert process.stdout.readline() == "ready\n"
    return process


def rest(process: Driver) -> list[list[str]]:
    """What the driver said until it ended, a list of words a line."""
    with process.stdout as said:
        lines = [line.split() for line in said.read().splitlines()]
    process.join()
    return [words for words in lines if words and words[0] != "point"]


def acknowledged(said: list[list[str]]) -> dict[str, set[str]]:
    """model → structures that must be there: published, and not about to be deleted."""
    found: dict[str, set[str]] = {model: set() for model in MODELS}
    for words in said:
        if words[0] == "ok":
            found[words[1]] |= set(words[2:])
        if words[0] == "deleting":
            for ids in found.values():
                ids -= set(words[1:])
    return found


MIDDLE = (
    "Lance write_fragments",
    "Lance commit",
    "fsync vectors",
    "fsync partial",
    "link manifests",
)


@pytest.mark.faults
def test_dying_before_every_step(tmp_path, monkeypatch):
    """In each life at another step: the first of its kind, then one in the middle of the job."""
    know_fakes(small_chunks=True, in_process=True, patch=monkeypatch.setattr)
    monkeypatch.setattr(writer, "PUBLISH_SHARE", 1e9)
    monkeypatch.setattr(bulk, "MOST_DELETED", 0.5)  # files have a few rows
    monkeypatch.setattr(cleanup, "KEEP_NUMBER", 2)
    for name in ("KEEP_AGE", "UNNAMED_AGE"):
        monkeypatch.setattr(cleanup, name, timedelta(hours=-1))
    pool = crystals(5)

    def job(path: Path) -> None:
        store = Store.open(path)
        pipeline(store, pool, tmp_path, models=("fake-a",))
        assert store.doctor()["problems"] == []

    deadly = Deadly(monkeypatch.setattr)
    path = tmp_path / "undisturbed.store"
    assert not deadly.kills(partial(job, path))
    expected, steps = content(Store.open(path)), Counter(deadly.steps)
    for step in ("link manifests", "replace catalog", "unlink vectors", "unlink retired"):
        assert step in steps
    fatal = [(what, 1) for what in steps]
    fatal += [(what, steps[what] // 2) for what in MIDDLE]
    # Where Lance has committed and nobody knows, the next life goes back to what is published.
    fatal += [("CHECKPOINT", steps["CHECKPOINT"] - 1), ("Lance restore", 1)]

    def ends_well(path: Path) -> None:
        store = Store.open(path)
        assert content(store) == expected, path.name
        assert set(store.sql("FROM run").state) <= {"finished", "failed", "interrupted"}

    path = tmp_path / "0.store"
    for number, (what, count) in enumerate(fatal, 1):
        if not deadly.kills(partial(job, path), what, count):  # the job was past it
            ends_well(path)
            path = tmp_path / f"{number}.store"
            assert deadly.kills(partial(job, path), what, count), what
        holds_what_was_published(path, deadly.published, what)
    assert not deadly.kills(partial(job, path))
    ends_well(path)


def holds_what_was_published(path: Path, published: Manifest | None, what: str) -> None:
    """Nothing that was acknowledged is lost or half there."""
    store = Store.open(path)
    newest = store._reader.newest_manifest()
    if newest is None:
        assert published is None, what
        return
    assert published is None or newest.id >= published.id, what
    assert damaged(store.location, newest) == [], what
    assert verify(store.snapshot()) == [], what


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.faults) for n in (1, 2, 3))]
)
def test_kill_9_again_and_again(tmp_path, fakes, seed):
    """Half of the kills at a point of the protocol, half at any moment and with real workers."""
    size = 10
    pool = crystals(size)
    dice = random.Random(seed)
    path = tmp_path / "killed.store"
    for kill in range(4):
        if kill % 2 == 0:
            kill_at = dice.randint(1, 60)
            process = start(path, crystals=size, in_process=True, eager=True, kill_at=kill_at)
        else:
            process = start(path, crystals=size, in_process=False)
            time.sleep(dice.uniform(0.0, 3.0))
            process.kill()
        said = rest(process)
        assert process.exitcode == -signal.SIGKILL, said
        store = Store.open(path)
        for model, ids in acknowledged(said).items():
            if ids:
                assert ids <= embedded(store, model), said[-1]
        if dice.random() < 0.5 and store._reader.newest_manifest():
            assert store.doctor()["problems"] == []
    store = Store.open(path)
    pipeline(store, pool, tmp_path)
    assert content(store) == _undisturbed(tmp_path, pool)
    assert store.doctor()["problems"] == []


def _undisturbed(folder: Path, pool: dict) -> dict:
    pipeline(store := Store.open(folder / "undisturbed.store"), pool, folder)
    return content(store)


def test_workers_killed_while_a_store_is_filled(tmp_path, monkeypatch):
    know_fakes("mortal", small_chunks=True, patch=monkeypatch.setattr)
    before = psutil.Process().children()
    pool = crystals(30)
    store = Store.open(tmp_path / "killed.store")
    for _ in range(20):  # what killed its worker twice is in quarantine, and tried again
        store.ingest(pool, ["fake-a"], batch_atoms=16)
        if not len(store.sql("FROM quarantine")):
            break
    assert embedded(store, "fake-a") == set(pool)
    assert not len(store.sql("FROM quarantine"))
    know_fakes(in_process=True, patch=monkeypatch.setattr)
    other = Store.open(tmp_path / "well.store")
    other.ingest(pool, ["fake-a"])
    assert content(store) == content(other)
    assert store.doctor()["problems"] == []
    assert psutil.Process().children() == before


def test_ctrl_c_stops_soon_and_a_repeat_resumes(tmp_path, fakes):
    path = tmp_path / "stopped.store"
    process = start(path, crystals=200, in_process=False, quirk="slow", job="ingest", eager=True)
    said = []
    while not said:
        words = process.stdout.readline().split()
        said += [words] if words[0] == "ok" else []
    os.kill(process.pid, signal.SIGINT)
    said += rest(process)
    assert process.exitcode == 130
    assert said[-1] == ["stopped"]
    store = Store.open(path)
    kept = embedded(store, "fake-a")
    assert acknowledged(said)["fake-a"] == kept
    assert 0 < len(kept) < 200
    assert store.sql("SELECT state FROM run").state.tolist() == ["interrupted"]
    assert store.sql("SELECT structures FROM run").structures.tolist() == [len(kept)]
    _, (run, _) = store.ingest(crystals(200), MODELS)
    assert run.structures == 200 - len(kept)
    assert embedded(store, "fake-a") == embedded(store, "fake-b") == set(crystals(200))
    assert store.doctor()["problems"] == []
