"""The pool answers every structure exactly once, whatever a worker does."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

from platonic_store import errors
from platonic_store.runtimes import forkserver
from platonic_store.runtimes.batching import SCHEMA
from platonic_store.runtimes.cards import Card, Layer, resolve
from platonic_store.runtimes.forkserver import servers_ahead
from platonic_store.runtimes.interpreters import interpreter
from platonic_store.runtimes.preparation import RunnableModel
from platonic_store.runtimes.process import Worker
from platonic_store.runtimes.workers import WorkerPool

FAMILY = Path(__file__).with_name("fake")


def card(loader="well"):
    return Card(
        name="fake-1",
        family="fake",
        folder=str(FAMILY),
        loader=loader,
        checkpoint_sha256="0" * 64,
        elements=tuple(range(1, 95)),
        cutoff=5.0,
        conservative=True,
        equivariant=False,
        layers=(Layer(0, 3), Layer(1, 3)),
        default_layer=0,
        default_layer_reason="",
    )


def batch(ids, atoms=4):
    rng = np.random.default_rng(0)
    rows = [
        {
            "id": name,
            "numbers": rng.integers(1, 90, atoms).tolist(),
            "positions": rng.normal(size=3 * atoms).tolist(),
            "cell": (10 * np.eye(3)).ravel().tolist(),
            "pbc": [True] * 3,
        }
        for name in ids
    ]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def run(pool, *batches, before=lambda index: None):
    """The rejections; asserts that each structure was answered once, and rightly.

    before: called with the index of each batch before the pool gets it.
    """

    def source():
        for index, one in enumerate(batches):
            before(index)
            yield one

    numbers = {
        name: values
        for one in batches
        for name, values in zip(one["id"].to_pylist(), one["numbers"].to_pylist(), strict=True)
    }
    rejected = {}
    seen = []
    for answer in pool.embed(source()):
        rejected |= dict(answer.rejected)
        seen += [name for name, _ in answer.rejected]
        table = answer.table.to_pandas()
        for name, rows in table.groupby("id", sort=False):
            seen.append(name)
            assert rows.site_index.tolist() == list(range(len(numbers[name])))
            found = np.stack(rows.layer_1.to_numpy())
            assert np.array_equal(found, 2 * np.outer(numbers[name], [1, 2, 3]))
    assert sorted(seen) == sorted(numbers)
    return rejected


def worker_processes():
    """Forked or not; the server last, which is not forked from."""
    found = psutil.Process().children(recursive=True)
    return sorted(found, key=lambda process: process.ppid() == os.getpid())


def names(n, *special):
    return [f"s{i}" for i in range(n)] + list(special)


def test_identity_and_answers():
    with WorkerPool(card(), (0, 1), workers=2) as pool:
        assert pool.identity["model"] == "fake-1"
        assert pool.identity["layers"] == [{"index": 0, "dim": 3}, {"index": 1, "dim": 3}]
        assert run(pool, batch(names(2000))) == {}
        assert run(pool, batch(["again"])) == {}, "a pool serves more than one question"
        assert run(pool) == {}


def test_an_idle_worker_is_told_of_once_the_source_has_ended():
    found, told = [], []
    with WorkerPool(card(), (0,), workers=2) as pool:
        answers = pool.embed([batch(names(2000))], lambda: told.append(len(found)))
        for answer in answers:
            found.append(answer)
    assert len(told) == 1
    assert 0 < told[0] < len(found)


def test_same_id_twice_does_not_hang():
    with WorkerPool(card(), (0,), workers=1) as pool:
        answers = list(pool.embed([batch(["a", "a"])]))
    assert sum(answer.table.num_rows for answer in answers) == 8


def test_a_structure_larger_than_a_request():
    with WorkerPool(card(), (1,), workers=1) as pool:
        assert run(pool, batch(["a"]), batch(["huge"], 5000), batch(["b"])) == {}


def test_one_structures_failure_is_its_own():
    with WorkerPool(card(), (1,), workers=1) as pool:
        stranger = batch(["s"]).set_column(
            1, "numbers", pa.array([[84] * 3 + [95]], SCHEMA[1].type)
        )
        stranger = stranger.set_column(0, "id", pa.array(["stranger"]))
        rejected = run(pool, batch(names(50, "no graph", "raises")), stranger)
    assert rejected == {
        "no graph": "no graph: ValueError: two atoms at one place",
        "raises": "no embedding: ValueError: cannot embed this",
        "stranger": "fake-1 does not know element Am",
    }


def test_out_of_memory_halves_and_rejects_what_does_not_fit():
    with WorkerPool(card("small memory"), (1,), workers=1) as pool:
        rejected = run(pool, batch(names(30)), batch(["big"], 11))
    assert rejected == {"big": "out of memory: its 11 atoms do not fit on cpu"}


def test_the_batch_grows_until_a_gpus_memory_is_half_full_and_is_remembered(home):
    with WorkerPool(card("gpu"), (1,), workers=1) as pool:
        assert pool.identity["batch_atoms"] == 100
        assert run(pool, *(batch([f"{i}-{j}" for j in range(300)]) for i in range(30))) == {}
        assert pool.batch_atoms == 3200
    with WorkerPool(card("gpu"), (1,), workers=1) as pool:
        assert pool.identity["batch_atoms"] == 3200
    with WorkerPool(card("gpu"), (0,), workers=1) as pool:
        assert pool.identity["batch_atoms"] == 100, "to another layer, another memory"
    with WorkerPool(card("gpu"), (1,), workers=1, batch_atoms=64) as pool:
        run(pool, batch(names(300)))
        assert pool.batch_atoms == 64, "who says how many gets so many"
    with WorkerPool(card(), (1,), workers=1) as pool:
        run(pool, batch(names(300)))
        assert pool.batch_atoms == 192, "on a CPU, memory does not decide"


@pytest.mark.parametrize(
    ("poison", "cause"),
    [
        ("poison", "signal 9"),
        pytest.param("exits", "exit code 1: gave up", marks=pytest.mark.faults),
        pytest.param("garbage", "invalid data on stdout", marks=pytest.mark.faults),
    ],
)
def test_a_structure_that_kills_its_worker_is_found_and_rejected(poison, cause):
    ids = names(40)
    ids.insert(17, poison)
    with WorkerPool(card(), (1,), workers=2) as pool:
        assert run(pool, batch(ids)) == {poison: f"killed its worker twice ({cause})"}
        assert run(pool, batch(names(10))) == {}


def test_on_a_gpu_too_though_it_dies_while_another_request_is_unanswered(home):
    """Its worker has launched the next request's pass before it answers one."""
    batches = [batch([f"{i}-{j}" for j in range(128)]) for i in range(4)]
    batches[2] = batch([*(f"2-{j}" for j in range(3)), "poison", *(f"2-{j}" for j in range(3, 90))])
    with WorkerPool(card("late gpu"), (1,), workers=1, batch_atoms=64) as pool:
        assert run(pool, *batches) == {"poison": "killed its worker twice (signal 9)"}


@pytest.mark.faults
def test_workers_killed_from_outside_lose_nothing():
    def kill_one(index):
        if index in (8, 16, 24):
            for child in worker_processes()[:1]:
                with suppress(psutil.NoSuchProcess):  # it may just have died of the last kill
                    child.kill()

    batches = [batch([f"{i}-{j}" for j in range(30)]) for i in range(30)]
    with WorkerPool(card("slow"), (1,), workers=2) as pool:
        assert run(pool, *batches, before=kill_one) == {}


def test_a_structure_at_which_its_worker_hangs_is_found_and_rejected(monkeypatch):
    monkeypatch.setattr("platonic_store.runtimes.workers.HANG_SECONDS", 1.0)
    monkeypatch.setattr("platonic_store.runtimes.workers.HANG_ATOM_SECONDS", 0.0)
    ids = names(12)
    ids.insert(7, "hangs")
    with WorkerPool(card(), (1,), workers=2) as pool:
        reason = "killed its worker twice (no answer for 1 s)"
        assert run(pool, batch(ids)) == {"hangs": reason}
        assert run(pool, batch(names(10))) == {}


def test_a_stopped_worker_is_replaced(monkeypatch):
    monkeypatch.setattr("platonic_store.runtimes.workers.HANG_SECONDS", 2.0)
    monkeypatch.setattr("platonic_store.runtimes.workers.HANG_ATOM_SECONDS", 0.0)

    def stop_one(index):
        if index == 3:
            worker_processes()[0].send_signal(signal.SIGSTOP)

    batches = [batch([f"{i}-{j}" for j in range(150)]) for i in range(12)]
    with WorkerPool(card(), (1,), workers=2) as pool:
        assert run(pool, *batches, before=stop_one) == {}


def forked_from() -> list[psutil.Process]:
    """The processes of this one from which workers are forked."""
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE
        and any(word.endswith("forkserver.py") for word in child.cmdline())
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked elsewhere")
def test_workers_are_forked_from_one_that_has_the_packages():
    with WorkerPool(card(), (1,), workers=2) as pool:
        assert pool.identity["device"] == "cpu"
        (server,) = forked_from()
        assert len(server.children()) == 2
        assert run(pool, batch(names(10, "poison"))) == {
            "poison": "killed its worker twice (signal 9)"
        }
        assert forked_from() == [server]
        server.kill()  # and with it its workers: others are started
        assert run(pool, *(batch([f"{i}-{j}" for j in range(150)]) for i in range(9))) == {}
    assert forked_from() == []


def test_a_package_that_starts_threads_is_not_forked_from(monkeypatch):
    monkeypatch.setenv("FAKE_FAMILY", "threads")
    with WorkerPool(card(), (1,), workers=2) as pool:
        assert run(pool, batch(names(300))) == {}
        assert not pool._forks


def test_a_refusal_is_one_line():
    with pytest.raises(errors.WorkerFailed) as failure:
        _ = WorkerPool(card("refuses"), (0,), workers=2).identity
    assert str(failure.value) == ("fake-1 cannot start: FileNotFoundError: weights.pt is not here")
    with pytest.raises(errors.WorkerFailed, match=r"no layer 7: the model has \[0, 1\]"):
        _ = WorkerPool(card(), (7,), workers=1).identity
    with pytest.raises(errors.WorkerFailed, match="no output energy: the model gives features"):
        _ = WorkerPool(card(), (0,), outputs=("energy", "forces"), workers=1).identity


def test_starts_deaths_and_retries_are_logged(caplog):
    caplog.set_level("INFO", "platonic_store.runtimes")
    with WorkerPool(card(), (1,), workers=1) as pool:
        run(pool, batch(["exits"]))
    texts = [record.getMessage() for record in caplog.records]
    assert sum(text.endswith("started on cpu") for text in texts) >= 2
    death = "fake-1: worker died (exit code 1: gave up); retrying its request of 1"
    rejection = "fake-1: rejected exits: killed its worker twice (exit code 1: gave up)"
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [death, rejection]


def test_a_worker_that_never_starts_is_one_line():
    with pytest.raises(errors.WorkerFailed, match=r"died 3 times while starting \(signal 9\)"):
        _ = WorkerPool(card("never"), (0,), workers=2).identity


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo an interpreter that chatters; sleep 60", "invalid data on stdout"),
        ("echo No module named pyarrow >&2; exit 1", "exit code 1: No module named pyarrow"),
    ],
)
def test_an_interpreter_that_is_none(tmp_path, script, reason):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    with pytest.raises(errors.WorkerFailed) as failure:
        _ = WorkerPool(card(), (0,), workers=1, python=python).identity
    assert str(failure.value).endswith(f"while starting ({reason})")
    assert failure.value.hint == (f"check that {python} has numpy and pyarrow",)


def test_leaving_early_and_errors_leave_no_process():
    before = psutil.Process().children()
    pool = WorkerPool(card("slow"), (0,), workers=2)
    start = time.monotonic()
    for _ in pool.embed([batch(names(60))]):
        break
    pool.close()
    with WorkerPool(card("slow"), (0,), workers=2) as other:
        next(other.embed([batch(names(60))]))
    assert time.monotonic() - start < 60
    assert psutil.Process().children() == before


def test_memory_of_the_parent_stays_flat():
    """The source is read no further than the workers keep up."""
    read = 0

    def source():
        nonlocal read
        for i in range(200):
            read += 1
            yield batch([f"{i}-{j}" for j in range(250)])

    with WorkerPool(card(), (0,), workers=1) as pool:
        answers = pool.embed(source())
        next(answers)
        assert read < 10
        answers.close()


def test_kill_9_of_the_parent_leaves_no_orphans():
    program = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent)!r}]
from test_workers import *
with WorkerPool(card("slow"), (0,), workers=2) as pool:
    for answer in pool.embed(batch(names(40)) for _ in range(100)):
        print("running", flush=True)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline()
    workers = psutil.Process(parent.pid).children(recursive=True)
    assert len(workers) >= 2
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive


@pytest.mark.parametrize(
    "name",
    [
        "fake-1",
        pytest.param("chgnet-0.3.0", marks=pytest.mark.models),
        pytest.param("sevennet-0", marks=pytest.mark.models),
    ],
)
def test_graph_processes_give_the_same_and_end_with_their_worker(name, tmp_path):
    """What a GPU's worker does, on a CPU."""
    model = card() if name == "fake-1" else resolve(name)
    try:
        interpreter(model)
    except errors.EnvironmentNotReady as reason:
        pytest.skip(str(reason))
    request = {"card": model.as_dict(), "layers": [1], "device": "cpu", "batch_atoms": None}
    request |= {"batch_atoms_before": {}, "outputs": []}
    questions = [batch([f"{i}-{j}" for j in range(10)]) for i in range(3)]
    answers = []
    for graph_processes in (0, 2):
        worker = Worker(
            Path(sys.executable), request | {"graph_processes": graph_processes}, str(tmp_path)
        )
        try:
            worker.handshake()
            for question in questions:
                worker.send(question)
            answers.append([worker.receive(question) for question in questions])
            helpers = psutil.Process(worker._process.pid).children(recursive=True)
        finally:
            worker.close()
        assert bool(helpers) == bool(graph_processes)
        _, alive = psutil.wait_procs(helpers, timeout=30)
        assert not alive
    for inline, ahead in zip(*answers, strict=True):
        assert inline.table == ahead.table
        assert inline.rejected == ahead.rejected


@pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked elsewhere")
def test_servers_begin_one_model_ahead_and_end_with_the_block(monkeypatch):
    monkeypatch.setattr(forkserver, "usable_cores", lambda: 2)
    models = [RunnableModel(card(), Path(sys.executable))] * 3
    with servers_ahead(models, "cpu") as pairs:
        assert len(forked_from()) == 2, "before the first is asked for"
        for place, (model, server) in enumerate(pairs, 1):
            if place == 2:  # whose server is never used, nor the third's
                break
            assert len(forked_from()) == 2 + place - 1
            with WorkerPool(model.card, (1,), workers=2, server=server) as pool:
                assert run(pool, batch(names(10))) == {}
    assert forked_from() == []
    with servers_ahead(models, "cuda") as pairs:
        assert [server for _, server in pairs] == [None] * 3, "CUDA does not survive a fork"
