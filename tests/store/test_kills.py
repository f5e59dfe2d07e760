"""kill -9 at any moment: nothing twice, nothing lost that was acknowledged, and the same end."""

import json
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import kill_points
import psutil
import pytest
from store_fakes import MODELS, content, crystals, embedded, know_fakes, pipeline

from platonic_store.errors import StoreNotFound
from platonic_store.store import Store

DRIVER = Path(__file__).with_name("store_driver.py")


def start(path: Path, **options) -> subprocess.Popen:
    """The driver, ready to write."""
    process = subprocess.Popen(
        [sys.executable, DRIVER, str(path), json.dumps(options)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def rest(process: subprocess.Popen) -> list[list[str]]:
    """What the driver said until it ended, a list of words a line."""
    assert process.stdout is not None
    with process.stdout as said:
        lines = [line.split() for line in said.read().splitlines()]
    process.wait()
    return [words for words in lines if words and words[0] != "point"]


def acknowledged(said: list[list[str]]) -> dict[str, set[str]]:
    """model → structures that must be there: committed, and not about to be deleted."""
    found: dict[str, set[str]] = {model: set() for model in MODELS}
    for words in said:
        if words[0] == "ok":
            found[words[1]] |= set(words[2:])
        if words[0] == "deleting":
            for ids in found.values():
                ids -= set(words[1:])
    return found


class Killed(BaseException):
    """Nothing in the program expects it."""


def test_dying_at_any_point_of_the_protocol(tmp_path, monkeypatch):
    """In one process, so that many points can be tried: a dead writer writes nothing more."""
    know_fakes(small_chunks=True, in_process=True, patch=monkeypatch.setattr)
    pool = crystals(5)
    job = partial(pipeline, pool=pool, folder=tmp_path, models=("fake-a",))
    countdown = 0
    points: list[str] = []

    def reached(what):
        nonlocal countdown
        countdown -= 1
        points.append(what)
        if countdown <= 0:
            raise Killed

    kill_points.install(reached, monkeypatch.setattr)
    countdown = 10**9
    job(undisturbed := Store.open(tmp_path / "undisturbed.store"))
    expected = content(undisturbed)
    total = len(points)
    assert total > 100
    for trial, point in enumerate(range(1, total, total // 7)):
        path = tmp_path / f"{trial}.store"
        countdown = point
        points.clear()
        with pytest.raises(Killed):
            job(Store.open(path))
        countdown = 10**9
        store = Store.open(path)
        if trial % 2:
            try:
                assert store.doctor()["problems"] == [], points[point - 1]
            except StoreNotFound:
                assert point < 4, "it died before there was a store"
        job(store)
        assert content(store) == expected, points[point - 1]
        assert store.doctor()["problems"] == []
        assert set(store.sql("FROM run").state) <= {"finished", "failed", "interrupted"}


def test_kill_9_twenty_times(tmp_path, fakes):
    """Half of the kills at a point of the protocol, half at any moment and with real workers."""
    size = 20
    pool = crystals(size)
    expected = None
    for seed in range(4):
        dice = random.Random(seed)
        path = tmp_path / f"{seed}.store"
        for kill in range(5):
            if kill % 2 == 0:
                process = start(path, crystals=size, in_process=True, kill_at=dice.randint(1, 70))
            else:
                process = start(path, crystals=size, in_process=False)
                time.sleep(dice.uniform(0.0, 3.0))
                process.kill()
            said = rest(process)
            assert process.returncode == -signal.SIGKILL, said
            if said or (path / "catalog.duckdb").exists():
                store = Store.open(path)
                for model, ids in acknowledged(said).items():
                    if ids:
                        assert ids <= embedded(store, model), said[-1]
                if dice.random() < 0.5 and store.catalog.revision() is not None:
                    assert store.doctor()["problems"] == []
        store = Store.open(path)
        pipeline(store, pool, tmp_path)
        expected = expected or _undisturbed(tmp_path, pool)
        assert content(store) == expected
        assert store.doctor()["problems"] == []


def _undisturbed(folder: Path, pool: dict) -> dict:
    pipeline(store := Store.open(folder / "undisturbed.store"), pool, folder)
    return content(store)


def test_workers_killed_while_a_store_is_filled(tmp_path, monkeypatch):
    know_fakes("mortal", small_chunks=True, patch=monkeypatch.setattr)
    pool = crystals(40)
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
    assert not psutil.Process().children()


def test_ctrl_c_stops_soon_and_a_repeat_resumes(tmp_path, fakes):
    path = tmp_path / "stopped.store"
    process = start(path, crystals=150, in_process=False, quirk="slow", job="ingest")
    assert process.stdout is not None
    said = []
    while len(said) < 3:
        words = process.stdout.readline().split()
        said += [words] if words[0] == "ok" else []
    process.send_signal(signal.SIGINT)
    pressed = time.monotonic()
    said += rest(process)
    assert time.monotonic() - pressed < 10
    assert process.returncode == 130
    assert said[-1] == ["stopped"]
    store = Store.open(path)
    kept = embedded(store, "fake-a")
    assert acknowledged(said)["fake-a"] == kept
    assert 0 < len(kept) < 150
    assert store.sql("SELECT state FROM run").state.tolist() == ["interrupted"]
    assert store.sql("SELECT structures FROM run").structures.tolist() == [len(kept)]
    _, (run, _) = store.ingest(crystals(150), MODELS)
    assert run.structures == 150 - len(kept)
    assert embedded(store, "fake-a") == embedded(store, "fake-b") == set(crystals(150))
    assert store.doctor()["problems"] == []
