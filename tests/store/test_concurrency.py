"""Readers beside a writer, in other processes and in other threads."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from store_fakes import MODELS, content, crystals, embedded, know_fakes
from test_kills import rest, start

from platonic_store.errors import StoreBusy
from platonic_store.store import Store


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


def test_readers_beside_an_ingest_in_another_process(tmp_path, fakes):
    path = tmp_path / "busy.store"
    Store.open(path).ingest({"first": crystals(1, seed=5)["c0"]}, MODELS)
    process = start(path, crystals=40, in_process=False, quirk="slow", job="ingest")
    assert process.stdout is not None
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
    with pytest.raises(StoreBusy, match="another process is writing") as busy:
        Store.open(path).ingest(crystals(3), ["fake-a"])
    assert "\n" not in str(busy.value)
    for thread in (*threads, reader):
        thread.join(120)
        assert not thread.is_alive(), "readers must not keep the writer out"
    assert not failures
    assert said[-1] == ["done"], said[-1]
    for one in watches:
        assert one.seen == {"first", *crystals(40)}
    assert Store.open(path).doctor()["problems"] == []


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
    (tmp_path / "attach.sql").write_text(
        f"ATTACH '{store.catalog.published()}' AS catalog (READ_ONLY);"
    )
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
connection = duckdb.connect()
connection.execute(open(sys.argv[1]).read())
count = "SELECT count(*) FROM catalog.main.structures"
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


def test_a_snapshot_does_not_see_what_is_committed_later(store):
    store.ingest(crystals(3), ["fake-a"])
    with store.snapshot() as snapshot:
        (atoms,) = [t for t in snapshot.tables if t.level == "atom"]
        before = snapshot.points(atoms).vectors.copy()
        other = store.vectors
        other.append(atoms.name, _rows(store, atoms))
        fresh = Store.open(store.path)
        with fresh.snapshot() as again:
            assert np.array_equal(again.points(atoms).vectors, before)
    assert len(content(store)[None, "fake-a", 1, "structure"]) == 3


def _rows(store, table):
    columns = [field.name for field in store.vectors._open(table.name).schema]
    (batch, *_) = store.vectors.read(table.name, table.version, columns)
    return batch
