"""Published states: what readers open, when it is made, how long it is kept."""

import errno
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from gc import collect
from weakref import ref

import pytest
from store_fakes import content, crystals, know_fakes

from platonic_store.errors import StoreBusy, StoreNotFound
from platonic_store.jobs import ingest as ingestion
from platonic_store.storage import commits, published
from platonic_store.storage.snapshot import newest
from platonic_store.store import Store


def numbers(store: Store) -> list[int]:
    return sorted(int(file.stem) for file in (store.path / "published").glob("*.duckdb"))


def test_a_state_is_one_snapshot_until_the_next(store):
    with pytest.raises(StoreNotFound):
        store.snapshot()
    store.ingest(crystals(3), ["fake-a"])
    first = store.snapshot()
    assert store.snapshot() is first
    assert first.path == store.catalog.published()
    assert len(store.similar("c1")) == 2
    assert store.snapshot() is first, "a query opens nothing"
    store.ingest({"new": crystals(1, seed=3)["c0"]}, ["fake-a"])
    second = store.snapshot()
    assert second.id > first.id
    with first as same:
        assert len(same.frame("FROM structure")) == 3
    assert len(second.frame("FROM structure")) == 4
    other = Store.open(store.path).snapshot()
    assert other is not second
    assert other.id == second.id


def test_a_snapshot_is_closed_when_nobody_has_it(store):
    store.ingest(crystals(3), ["fake-a"])
    gone = ref(store.snapshot().connection)
    store.ingest(crystals(4), ["fake-a"])
    store.snapshot()
    collect()
    assert gone() is None


def test_a_store_made_anew_in_the_same_place_is_another(store):
    store.ingest(crystals(3))
    old = store.snapshot()
    shutil.rmtree(store.path)
    store.ingest(crystals(5, seed=1))
    assert len(store.sql("FROM structure")) == 5
    assert len(store.snapshot().frame("FROM structure")) == 5
    assert len(old.frame("FROM structure")) == 3, "its file is still open"


def test_many_threads_share_a_snapshot(store):
    store.ingest(crystals(8), ["fake-a"])
    expected = store.similar("c1", where="nsites > 1")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: store.similar("c1", where="nsites > 1"), range(64)))
        assert (
            len(set(pool.map(lambda _: id(newest(store.catalog, store.vectors)), range(64)))) == 1
        )
    assert all(one.equals(expected) for one in found)


def test_one_publication_a_chunk_and_none_where_nothing_is_done(store, monkeypatch):
    know_fakes(small_chunks=True, in_process=True, patch=monkeypatch.setattr)
    chunks = 0
    commit_chunk = commits.commit_chunk

    def counted(*arguments):
        nonlocal chunks
        chunks += 1
        return commit_chunk(*arguments)

    monkeypatch.setattr(ingestion.commits, "commit_chunk", counted)
    store.ingest(crystals(20), ["fake-a"], batch_atoms=16)
    assert chunks > 3
    begun, ended = 1, 2
    assert numbers(store)[-1] <= begun + chunks + ended
    before = numbers(store)
    store.doctor()
    assert numbers(store) == before


def test_what_was_committed_and_not_published_is_published_by_the_next_writer(store):
    store.ingest(crystals(3), ["fake-a"])
    before = content(store)
    with store.catalog.writing() as connection:
        connection.exec_driver_sql("UPDATE runs SET state = 'running'")
    assert store.sql("FROM run")["state"].tolist() == ["finished"]
    fresh = Store.open(store.path)
    fresh.doctor()
    assert fresh.sql("FROM run")["state"].tolist() == ["interrupted"]
    assert store.sql("FROM run")["state"].tolist() == ["interrupted"]
    assert content(fresh) == before


def test_a_log_that_a_killed_writer_left_is_published_too(store):
    store.ingest(crystals(3), ["fake-a"])
    program = (
        "import duckdb, os, sys\n"
        "connection = duckdb.connect(sys.argv[1])\n"
        "connection.execute(\"UPDATE runs SET device = 'abacus'\")\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(store.catalog.path)], check=False)
    assert store.catalog.path.with_name("catalog.duckdb.wal").exists()
    assert store.sql("FROM run")["device"].tolist() == ["cpu"]
    store.doctor()
    assert store.sql("FROM run")["device"].tolist() == ["abacus"]


def test_old_states_are_kept_for_a_while_and_for_little_disk(store, monkeypatch):
    pool = crystals(7)

    def ingest(count):
        store.ingest(dict(list(pool.items())[:count]))

    for count in (1, 2, 3):
        ingest(count)
    kept = numbers(store)
    assert len(kept) > 1
    ingest(4)
    assert numbers(store) == [*kept, kept[-1] + 1], "an hour has not passed"
    size = store.catalog.published().stat().st_size
    monkeypatch.setattr(published, "KEEP_BYTES", 2 * size)
    ingest(5)
    last = kept[-1] + 2
    assert numbers(store) == [last - 2, last - 1, last]
    # However old a state is: it was the newest until now.
    os.utime(store.catalog.published(), (0, 0))
    monkeypatch.setattr(published, "KEEP", timedelta(minutes=1))
    ingest(6)
    assert last in numbers(store)
    monkeypatch.setattr(published, "KEEP", timedelta(0))
    ingest(7)
    assert len(numbers(store)) == 1


def test_old_states_make_room_on_a_full_disk(store, monkeypatch):
    for count in (1, 2, 3):
        store.ingest(crystals(count))
    last = numbers(store)[-1]
    assert numbers(store) != [last]
    copy = shutil.copy2

    def full(working, partial):
        if len(numbers(store)) > 1:
            raise OSError(errno.ENOSPC, "no space left on device")
        copy(working, partial)

    monkeypatch.setattr(published.shutil, "copy2", full)
    store.ingest(crystals(4))
    assert len(store.sql("FROM structure")) == 4
    assert numbers(store) == [last, last + 1]


def test_a_state_that_disappears_while_it_is_opened_is_no_trouble(store, monkeypatch):
    store.ingest(crystals(2))
    store.ingest(crystals(3))
    old = store.catalog.published().with_name("000001.duckdb")
    gone = iter([old.with_name("000000.duckdb"), old.with_name("000000.duckdb")])
    find = published.newest
    monkeypatch.setattr(published, "newest", lambda folder: next(gone, None) or find(folder))
    assert len(store.snapshot().frame("FROM structure")) == 3


def test_a_half_made_copy_is_nobodys(store):
    store.ingest(crystals(2))
    before = store.catalog.published()
    partial = before.with_name("000099.duckdb.partial")
    partial.write_bytes(b"half")
    assert Store.open(store.path).catalog.published() == before
    store.ingest(crystals(3))
    assert len(store.sql("FROM structure")) == 3


def test_a_store_that_was_never_published(store, monkeypatch):
    store.ingest(crystals(3), ["fake-a"])
    expected, hits = content(store), store.similar("c1")

    def unpublish() -> Store:
        shutil.rmtree(store.path / "published")
        return Store(store.path)

    assert content(unpublish()) == expected
    assert numbers(store) == [1]
    assert unpublish().similar("c1").equals(hits)
    monkeypatch.setattr(
        "platonic_store.storage.catalog.Catalog._first_published.retry.stop", lambda _: True
    )
    with store.catalog.locked(), pytest.raises(StoreBusy, match="another process is writing"):
        unpublish().snapshot()
    assert content(Store(store.path)) == expected
