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
from store_fakes import MODELS, content, crystals, embedded, know_fakes, pipeline

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


STORES = 4


class Killed(BaseException):
    """Nothing in the program expects it."""


def test_dying_at_every_point_of_the_protocol(tmp_path, monkeypatch):
    """Each kind of point once, in one process: a dead writer writes nothing more."""
    know_fakes(small_chunks=True, in_process=True, patch=monkeypatch.setattr)
    job = partial(pipeline, pool=crystals(5), folder=tmp_path, models=("fake-a",))
    points: list[str] = []
    fatal = None, 0

    def reached(what):
        points.append(what)
        if (what, points.count(what)) == fatal:
            raise Killed

    kill_points.install(reached, monkeypatch.setattr)
    job(undisturbed := Store.open(tmp_path / "undisturbed.store"))
    expected = content(undisturbed)
    assert len(points) > 100
    every = list(dict.fromkeys(points))

    def dies(path: Path, what: str, count: int) -> bool:
        nonlocal fatal
        points.clear()
        fatal = what, count
        try:
            job(Store.open(path))
        except Killed:
            return True
        finally:
            fatal = None, 0
        return False

    stores = []
    for first in range(STORES):  # each is killed again and again, a little later each time
        stores.append(path := tmp_path / f"{first}.store")
        for trial, what in enumerate(every[first::STORES]):
            if not dies(path, what, trial + 1):  # the job is past it there: a new store
                stores.append(path := tmp_path / f"{first}.{trial}.store")
                assert dies(path, what, 1), what
            if trial % 2:
                assert Store.open(path).doctor()["problems"] == [], what
    for path in stores:
        job(store := Store.open(path))
        assert content(store) == expected, path.name
        assert store.doctor()["problems"] == []
        assert set(store.sql("FROM run").state) <= {"finished", "failed", "interrupted"}


def test_kill_9_again_and_again(tmp_path, fakes):
    """Half of the kills at a point of the protocol, half at any moment and with real workers."""
    size = 10
    pool = crystals(size)
    expected = None
    for seed in range(2):
        dice = random.Random(seed)
        path = tmp_path / f"{seed}.store"
        for kill in range(4):
            if kill % 2 == 0:
                process = start(path, crystals=size, in_process=True, kill_at=dice.randint(1, 60))
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
    assert not psutil.Process().children()


def test_ctrl_c_stops_soon_and_a_repeat_resumes(tmp_path, fakes):
    path = tmp_path / "stopped.store"
    process = start(path, crystals=100, in_process=False, quirk="slow", job="ingest")
    assert process.stdout is not None
    said = []
    while len(said) < 3:
        words = process.stdout.readline().split()
        said += [words] if words[0] == "ok" else []
    process.send_signal(signal.SIGINT)
    said += rest(process)
    assert process.returncode == 130
    assert said[-1] == ["stopped"]
    store = Store.open(path)
    kept = embedded(store, "fake-a")
    assert acknowledged(said)["fake-a"] == kept
    assert 0 < len(kept) < 100
    assert store.sql("SELECT state FROM run").state.tolist() == ["interrupted"]
    assert store.sql("SELECT structures FROM run").structures.tolist() == [len(kept)]
    _, (run, _) = store.ingest(crystals(100), MODELS)
    assert run.structures == 100 - len(kept)
    assert embedded(store, "fake-a") == embedded(store, "fake-b") == set(crystals(100))
    assert store.doctor()["problems"] == []
