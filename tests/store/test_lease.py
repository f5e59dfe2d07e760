"""One writer a store: who gets the lease, keeps it, loses it and gives it back."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest

from platonic_store.errors import LeaseLost, StoreBusy
from platonic_store.storage import lease as leases
from platonic_store.storage.lease import Lease, take
from platonic_store.storage.locate import locate

TAKE = """
import sys, time
from platonic_store.errors import StoreBusy
from platonic_store.storage.lease import take
from platonic_store.storage.locate import locate
location = locate(sys.argv[1])
sys.stdin.readline()
try:
    held = take(location)
except StoreBusy as error:
    print("busy:", error, flush=True)
else:
    print("held", held.number, flush=True)
    sys.stdin.readline()
    held.release()
"""


@pytest.fixture(params=["disk", "s3"])
def place(request, tmp_path):
    """A store's URI, and the variables of the environment that open it."""
    if request.param == "disk":
        return str(tmp_path / "a.store"), {}
    bucket = request.getfixturevalue("bucket")
    return bucket.uri, bucket.environment


@pytest.fixture
def location(place, monkeypatch):
    uri, environment = place
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return locate(uri)


@pytest.fixture
def process(place):
    """Starts processes that take the lease as soon as they are told."""
    started = []

    def start():
        uri, environment = place
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", TAKE, uri],
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
            )
        )
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()


def tell(process) -> None:
    process.stdin.write("\n")


@pytest.fixture
def abroad(monkeypatch):
    """Has what follows run on another machine, whose clock is apart by some minutes."""

    def go(minutes: float) -> None:
        here = leases._now
        monkeypatch.setattr(leases, "_machine", lambda: "another machine")
        monkeypatch.setattr(leases, "_now", lambda: here() + timedelta(minutes=minutes))

    return go


def abandon(lease: Lease) -> None:
    """Let a lease lapse, as a process does that hangs."""
    lease._ended.set()
    lease._thread.join()


def age(location, lease: Lease, monkeypatch, seconds: float) -> None:
    """Have the store's clock say that a lease was renewed so long ago."""
    names = type(location).names
    key = leases._key(lease.number)

    def older(self, prefix):
        ago = timedelta(seconds=seconds)
        return [
            entry._replace(modified=entry.modified - ago) if entry.key == key else entry
            for entry in names(self, prefix)
        ]

    monkeypatch.setattr(type(location), "names", older)


def test_two_processes_one_wins(process):
    both = [process(), process()]
    for one in both:
        tell(one)
    said = sorted(one.stdout.readline() for one in both)
    assert said[0].startswith("busy: process ")
    assert said[1] == "held 1\n"


def test_whoever_is_refused_hears_who_writes_since_when_and_how_long(location):
    with take(location) as held, pytest.raises(StoreBusy) as refused:
        take(location)
    since = held._holder["since"]
    assert f"process {os.getpid()} on {held._holder['host']} is writing" in str(refused.value)
    assert f"since {since}; its lease lapses in " in str(refused.value)
    assert "\n" not in str(refused.value)


def test_of_eight_threads_one_wins(location):
    got, start = [], threading.Barrier(8)

    def run():
        start.wait()
        try:
            got.append(take(location))
        except StoreBusy as error:
            got.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [one for one in got if isinstance(one, Lease)]
    assert (len(winners), len(got)) == (1, 8), got
    (winner,) = winners
    winner.require()
    winner.release()


def test_a_killed_holder_is_succeeded_at_once(location, process):
    holder = process()
    tell(holder)
    assert holder.stdout.readline() == "held 1\n"
    with pytest.raises(StoreBusy, match=f"process {holder.pid} "):
        take(location)
    holder.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # dead, and a zombie still
    with take(location) as held:
        assert held.number == 2


def test_a_pid_that_was_given_to_another_process_is_not_the_holder(location):
    abandon(take(location))
    key = leases._key(1)
    holder = json.loads(location.read(key))
    location.write(key, json.dumps({**holder, "started": "1"}).encode())
    with take(location) as held:
        assert held.number == 2


@pytest.mark.parametrize("minutes", [-5, 0, 5])
def test_another_machines_lease_lapses_by_the_stores_clock_alone(
    location, abroad, monkeypatch, minutes
):
    first = take(location)
    abandon(first)
    abroad(minutes)
    age(location, first, monkeypatch, first.ttl - 30)
    with pytest.raises(StoreBusy, match=r"its lease lapses in (29|30) s"):
        take(location)
    age(location, first, monkeypatch, 31)  # on top
    with take(location) as second:
        assert second.number == 2


def test_a_lease_that_is_renewed_does_not_lapse(location, abroad):
    with take(location, ttl=3) as held:
        abroad(5)
        (taken,) = location.names("lease")
        while location.names("lease")[0].modified <= taken.modified + timedelta(seconds=held.ttl):
            time.sleep(0.2)
        with pytest.raises(StoreBusy):
            take(location)


def test_renewals_that_fail_are_made_again(bucket):
    location = locate(bucket.uri, bucket.options)
    with take(location, ttl=0.3) as held:
        bucket.proxy.answer(403, "PUT", "lease/", times=2)
        while bucket.proxy.pending():
            time.sleep(0.1)
        before = len(bucket.proxy.seen)
        while ("PUT", f"/{bucket.name}/folder/test.store/lease/00000001.json") not in (
            bucket.proxy.seen[before:]
        ):
            time.sleep(0.1)
        held.require()


def test_whoever_was_succeeded_learns_it_and_disturbs_nobody(location, abroad, monkeypatch):
    first = take(location)
    first.require()
    abroad(0)
    with monkeypatch.context() as patch:
        age(location, first, patch, first.ttl + 2)
        second = take(location)
    taken = location.read(leases._key(2))
    for call in (first.require, first.renew):
        with pytest.raises(LeaseLost, match=f"process {os.getpid()} on .* took over the writing"):
            call()
    first.release()
    assert location.read(leases._key(2)) == taken
    second.require()
    second.release()


def test_a_released_lease_is_free_at_once_and_old_ones_are_removed(location, abroad):
    for number in range(1, 5):
        with take(location) as held:
            assert held.number == number
        held.release()
        abroad(0)
    names = [entry.key for entry in location.names("lease")]
    assert names == ["lease/00000003.json", "lease/00000004.json"]


def test_a_taker_who_was_overtaken_does_not_hold_a_number_of_the_past(location, monkeypatch):
    """It saw lease 1; before it made lease 2, others had 2, 3 and 4 and removed 1 and 2."""
    take(location).release()
    create = type(location).create
    monkeypatch.setattr(type(location), "create", lambda *args: overtake(*args))
    held = []

    def overtake(self, key, data):
        monkeypatch.setattr(type(location), "create", create)
        for _ in range(2):
            take(location).release()
        held.append(take(location))
        return create(self, key, data)

    with pytest.raises(StoreBusy):
        take(location)
    assert held[0].number == 4
    held[0].require()
    held[0].release()


def test_a_lease_that_was_half_written_lapses(location, monkeypatch):
    location.create(leases._key(1), b'{"number": 1, "ho')
    with pytest.raises(StoreBusy, match=r"process \? on an unknown host"):
        take(location)
    age(location, Lease(location, 1, 60), monkeypatch, 62)
    with take(location) as held:
        assert held.number == 2


def test_a_removed_lease_is_lost(location):
    with take(location) as held:
        location.delete([leases._key(1)])
        with pytest.raises(LeaseLost):
            held.require()
