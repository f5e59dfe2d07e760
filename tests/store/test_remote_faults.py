"""A writer on an object store that fails, stalls, is killed or is taken over in the middle.

After the same command again the rows are those of an undisturbed run, and nothing is damaged.
"""

import multiprocessing
import os
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from tempfile import TemporaryDirectory

import lance
import pytest
from s3 import KEY, SECRET, Bucket
from store_fakes import content, crystals, know_fakes

from platonic_store.errors import LeaseLost, StoreBusy, StoreUnreachable
from platonic_store.storage import lance_tables, lease, remote
from platonic_store.store import Store

POOL = crystals(5)
# Every kind of request that an ingest makes: method, and part of its path and query.
REQUESTS = [
    ("PUT", "partial/"),
    ("GET", "partial/"),
    ("POST", "delete"),
    ("GET", "prefix=folder/test.store/lease/"),
    ("GET", "lease/0"),
    ("PUT", "lease/0"),
    ("GET", "manifests/newest.json"),
    ("HEAD", "manifests/0"),
    ("GET", "manifests/0"),
    ("GET", "catalog/"),
    ("GET", "rows/crystals/"),
    ("HEAD", "rows/crystals/"),
    ("PUT", "rows/crystals/"),
    ("PUT", "/data/"),
    ("GET", "/data/"),
    ("GET", "prefix=folder/test.store/vectors/"),
    ("PUT", "/_transactions/"),
    ("GET", "/_transactions/"),
    ("PUT", ".lance/_versions/"),
    ("GET", ".lance/_versions/"),
    ("HEAD", ".lance/_versions/"),
    ("HEAD", "catalog/"),
    ("PUT", "catalog/"),
    ("PUT", "manifests/0"),
    ("PUT", "manifests/newest.json"),
]
# Those that change the store, in the order in which they come.
STEPS = [request for request in REQUESTS if request[0] == "PUT"]

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    ["ase", "platonic_store.jobs.ingest", "platonic_store.sql", "platonic_store.structures"]
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PLATONIC_STORE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def store(fakes, bucket) -> Store:
    """Three structures in an object store."""
    made = opened(bucket)
    ingest(made, 3)
    return made


def opened(bucket: Bucket) -> Store:
    return Store.open(bucket.uri, storage_options=bucket.options)


def ingest(store: Store, count: int = len(POOL)) -> None:
    store.ingest(dict(list(POOL.items())[:count]), ["fake-a"])


@cache
def expected(count: int = len(POOL)) -> dict:
    """What an undisturbed run gives, on a disk; the fake models must be known."""
    with TemporaryDirectory() as folder:
        ingest(store := Store.open(f"{folder}/undisturbed.store"), count)
        return content(store)


def check(bucket: Bucket) -> None:
    """All is as after an undisturbed run."""
    found = opened(bucket)
    assert found.doctor(deep=True)["problems"] == []
    assert content(found) == expected()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            lambda proxy, *request: proxy.answer(503, *request, times=2),
            id="503 twice",
            marks=pytest.mark.faults,
        ),
        pytest.param(
            lambda proxy, *request: proxy.delay(0.1, *request),
            id="late",
            marks=pytest.mark.faults,
        ),
        pytest.param(
            lambda proxy, *request: proxy.cut(*request), id="cut", marks=pytest.mark.faults
        ),
        pytest.param(lambda proxy, *request: proxy.lose(*request), id="answer lost"),
    ],
)
def test_every_kind_of_request_that_fails_is_made_again(store, bucket, fault):
    for request in REQUESTS:
        fault(bucket.proxy, *request)
    ingest(opened(bucket))
    assert not bucket.proxy.pending(), "each has failed"
    check(bucket)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("status", "step"),
    [
        (503, ("PUT", ".lance/_versions/")),
        (503, ("PUT", "catalog/")),
        (403, ("PUT", "/data/")),
        (403, ("PUT", "manifests/0")),
    ],
)
def test_a_server_that_fails_for_long_is_one_line_and_no_harm(
    store, bucket, monkeypatch, status, step
):
    monkeypatch.setattr(remote, "PATIENCE", 1)
    bucket.proxy.answer(status, *step, times=1000)
    with pytest.raises(StoreUnreachable, match=str(status)) as failed:
        ingest(opened(bucket))
    bucket.proxy.forget()
    said = str(failed.value)
    assert "\n" not in said
    assert not any(secret in said for secret in (KEY, SECRET, bucket.proxy.url))
    assert content(opened(bucket)) == expected(3)
    ingest(opened(bucket))
    check(bucket)


def test_a_snapshot_whose_note_does_not_arrive_is_there(store, bucket, monkeypatch):
    monkeypatch.setattr(remote, "PATIENCE", 1)
    bucket.proxy.answer(503, "PUT", "manifests/newest.json", times=1000)
    ingest(opened(bucket))
    assert content(opened(bucket)) == expected()


@pytest.mark.faults
@pytest.mark.parametrize("step", ["rows/crystals/", "/data/", ".lance/_versions/", "manifests/0"])
def test_a_writer_who_is_taken_over_in_the_middle(store, bucket, monkeypatch, step):
    def take_over() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(lease, "_require_lapsed", lambda *_: None)
            ingest(opened(bucket), 4)

    bucket.proxy.before(take_over, "PUT", step)
    with pytest.raises(LeaseLost) as lost:
        ingest(opened(bucket))
    assert "\n" not in str(lost.value)
    assert content(opened(bucket)) == expected(4)
    ingest(opened(bucket))
    check(bucket)


@pytest.mark.faults
@pytest.mark.parametrize("nth", [0, 1])
def test_what_a_writer_writes_who_lost_its_lease_is_nobodys(store, bucket, nth):
    """It adds rows to the very tables that its successor commits to and compacts."""
    interfered = 0

    def interfere() -> None:
        nonlocal interfered
        for name in store.snapshot().manifest.vectors:
            uri = store.location.lance_uri(name)
            table = lance_tables.open_table(uri, None, bucket.options)
            rows = table.head(1)
            lance.write_dataset(rows, uri, mode="append", storage_options=bucket.options)
            interfered += 1

    bucket.proxy.before(interfere, "PUT", ".lance/_versions/", passed=nth)
    ingest(opened(bucket))
    assert interfered == 2
    check(bucket)


def in_another_process(target: Callable, *arguments) -> multiprocessing.Process:
    process = _processes.Process(target=target, args=arguments)
    process.start()
    return process


def ingest_alone(uri: str, environment: dict[str, str], minutes: float | None = None) -> None:
    """Ingest in this process: on another machine, if its clock is apart by some minutes."""
    os.environ.update(environment)
    know_fakes(in_process=True)
    if minutes is not None:
        now = lease._now
        lease._machine = lambda: "another machine"
        lease._now = lambda: now() + timedelta(minutes=minutes)
    while True:
        try:
            return ingest(Store.open(uri))
        except StoreBusy:
            time.sleep(0.05)


def environment(bucket: Bucket) -> dict[str, str]:
    return {**bucket.environment, "PLATONIC_STORE_CACHE": os.environ["PLATONIC_STORE_CACHE"]}


@pytest.mark.faults
def test_kill_9_at_every_step_of_publishing(store, bucket):
    for step in STEPS[1:]:
        writers = []
        if step == STEPS[-1]:  # all is there by now, and the same again would write nothing
            opened(bucket).delete([list(POOL)[-1]])
        bucket.proxy.before(lambda writers=writers: writers[0].kill(), *step)
        writers.append(in_another_process(ingest_alone, bucket.uri, environment(bucket)))
        writers[0].join()
        assert writers[0].exitcode == -9, step
        assert content(opened(bucket)) in (expected(3), expected())
        assert not bucket.proxy.pending()
    ingest(opened(bucket))
    check(bucket)


@pytest.mark.faults
@pytest.mark.parametrize("minutes", [-5, 5])
def test_two_writers_whose_clocks_are_minutes_apart(store, bucket, minutes):
    refused = []

    def also_write() -> None:
        with pytest.raises(StoreBusy) as busy:
            ingest(opened(bucket))
        refused.append(str(busy.value))

    bucket.proxy.before(also_write, "PUT", "/data/")
    bucket.proxy.before(also_write, "PUT", "manifests/0")
    other = in_another_process(ingest_alone, bucket.uri, environment(bucket), minutes)
    other.join()
    assert other.exitcode == 0
    assert len(refused) == 2
    assert all(f"process {other.pid} on" in one for one in refused)
    check(bucket)


def test_two_processes_that_begin_at_once(fakes, bucket):
    both = [in_another_process(ingest_alone, bucket.uri, environment(bucket)) for _ in range(2)]
    for one in both:
        one.join()
        assert one.exitcode == 0
    check(bucket)
