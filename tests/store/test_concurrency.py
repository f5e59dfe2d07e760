"""Readers beside a writer, in other processes and in other threads."""

import re
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from store_fakes import MODELS, crystals, embedded, know_fakes
from test_kills import rest, start

from platonic_store.errors import StoreBusy
from platonic_store.store import Store


def says_who(text: str, path: Path) -> int:
    """The process that is writing, as the line says that the second writer gets."""
    host = re.escape(socket.gethostname())
    found = re.fullmatch(
        rf"(?:StoreBusy )?process (\d+) on {host} is writing to {re.escape(str(path))} "
        r"since (\S+); its lease lapses in \d+ s unless it is renewed",
        text,
    )
    assert found, text
    age = datetime.now(UTC) - datetime.fromisoformat(found[2])
    assert timedelta(0) <= age < timedelta(minutes=10)
    return int(found[1])


class Watch:
    """Queries a store again and again, and holds it to its promises."""

    def __init__(self, store: Store):
        self.store = store
        self.seen: set[str] = set()

    def look(self) -> None:
        if not len(self.store.sql("FROM structure")):
            return
        now = embedded(self.store, "fake-a")  # asserts that all atoms of each are there
        assert self.seen <= now, "what was committed stays"
        self.seen = now
        if now:
            asked = min(now)
            hits = self.store.similar(asked, model="fake-a", k=3)
            assert len(hits) >= min(3, len(now) - 1)
            assert asked not in set(hits.structure_id)


@pytest.mark.faults
def test_readers_beside_an_ingest_in_another_process(tmp_path, fakes):
    path = tmp_path / "busy.store"
    Store.open(path).ingest({"first": crystals(1, seed=5)["c0"]}, MODELS)
    process = start(path, crystals=150, in_process=False, quirk="slow", job="ingest", eager=True)
    said = []
    reader = threading.Thread(target=lambda: said.extend(rest(process)))
    reader.start()
    watches = [Watch(Store.open(path)) for _ in range(2)]
    failures: list[BaseException] = []

    def watch(one: Watch) -> None:
        try:
            while reader.is_alive():
                one.look()
            one.look()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=watch, args=[one]) for one in watches]
    for thread in threads:
        thread.start()

    while len(Store.open(path).sql("FROM structure")) == 1 and reader.is_alive():
        time.sleep(0.1)
    with pytest.raises(StoreBusy) as busy:
        Store.open(path).ingest(crystals(3), ["fake-a"])
    assert says_who(str(busy.value), path) == process.pid
    for thread in (*threads, reader):
        thread.join(120)
        assert not thread.is_alive(), "readers must not keep the writer out"
    assert not failures
    assert said[-1] == ["done"], said[-1]
    for one in watches:
        assert one.seen == {"first", *crystals(150)}
    assert Store.open(path).doctor()["problems"] == []


def test_of_two_writers_at_once_one_is_told_who_the_other_is(tmp_path, fakes):
    path = tmp_path / "contested.store"
    options = {"crystals": 20, "in_process": True, "job": "ingest", "quirk": "slow"}
    writers = [start(path, **options) for _ in range(2)]
    said = [rest(one)[-1] for one in writers]
    busy = [words for words in said if words[0] == "error"]
    assert len(busy) == 1, said
    ((loser, words),) = [(n, words) for n, words in enumerate(said) if words[0] == "error"]
    assert said[1 - loser] == ["done"]
    assert says_who(" ".join(words[1:]), path) == writers[1 - loser].pid
    store = Store.open(path)
    assert embedded(store, "fake-a") == embedded(store, "fake-b") == set(crystals(20))
    assert store.doctor()["problems"] == []


def test_a_thread_that_writes_and_others_that_read(tmp_path, monkeypatch):
    know_fakes(small_chunks=True, in_process=True, patch=monkeypatch.setattr)
    pool = crystals(40)
    store = Store.open(tmp_path / "threads.store")
    store.ingest({"first": crystals(1, seed=5)["c0"]}, ["fake-a"])
    failures: list[BaseException] = []

    def write():
        try:
            store.ingest(pool, ["fake-a"], batch_atoms=16)
            store.select_anchors("random", 8)
            store.project(["fake-a"])
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    watch = Watch(store)
    while writer.is_alive():
        watch.look()
        time.sleep(0.05)
    writer.join()
    assert not failures
    watch.look()
    assert watch.seen == {"first", *pool}
    assert store.doctor()["problems"] == []


def test_a_long_query_and_a_plain_client_beside_a_whole_ingest(tmp_path, fakes):
    """Neither notices the ingest, and it notices neither."""
    path = tmp_path / "busy.store"
    store = Store.open(path)
    store.ingest({"first": crystals(1, seed=5)["c0"]}, MODELS)
    (tmp_path / "attach.sql").write_text(store.init_sql())
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(tmp_path / "attach.sql")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdin is not None
    assert client.stdout is not None
    assert client.stdout.readline() == "1\n"

    ended = threading.Event()
    snapshot = store.snapshot()
    snapshot.connection.create_function(
        "wait", lambda _: ended.wait(120), ["BIGINT"], "BOOLEAN", side_effects=True
    )
    answers: list[list[tuple]] = []
    query = threading.Thread(
        target=lambda: answers.append(
            snapshot.rows("SELECT structure_id FROM structure WHERE wait(nsites)")
        )
    )
    query.start()
    said = rest(start(path, crystals=30, in_process=False, job="ingest"))
    assert said[-1] == ["done"], said[-1]
    assert query.is_alive()
    assert len(Store.open(path).sql("FROM structure")) == 31
    ended.set()
    query.join(60)
    assert answers == [[("first",)]]
    assert client.communicate("again\n", timeout=30)[0] == "1\n"
    assert client.returncode == 0
    assert len(embedded(store, "fake-b")) == 31


CLIENT = """
import sys, duckdb
connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
connection.execute(open(sys.argv[1]).read())
count = "SELECT count(DISTINCT structure_id) FROM structure JOIN site USING (structure_id)"
print(connection.execute(count).fetchone()[0], flush=True)
sys.stdin.readline()
print(connection.execute(count).fetchone()[0], flush=True)
"""


def test_a_writer_may_hold_a_snapshot(store):
    store.ingest(crystals(3), ["fake-a"])
    with store.snapshot() as before:
        store.ingest({"new": crystals(1, seed=3)["c0"]}, ["fake-a"])
        assert len(before.frame("FROM structure")) == 3
    assert "new" in embedded(store, "fake-a")


def test_a_snapshot_does_not_see_what_is_written_or_published_later(store):
    store.ingest(crystals(3), ["fake-a"])
    with store.snapshot() as snapshot:
        (atoms,) = [t for t in snapshot.tables if t.level == "atom"]
        before = snapshot.points(atoms).vectors.copy()
        rows = snapshot._vectors._open(atoms.name).to_table()
        with store._writing("test") as writer:
            with writer.writing():
                writer.append(atoms.name, rows)
                with Store.open(store.path).snapshot() as again:
                    assert np.array_equal(again.points(atoms).vectors, before)
            writer.publish()
            found = Store.open(store.path).snapshot()
            assert len(found.points(found.tables[0]).vectors) == 2 * len(before)
        earlier = Store.open(store.path, at=snapshot.id).snapshot()
        for one in (snapshot, earlier):
            assert np.array_equal(one.points(atoms, "true").vectors, before)
