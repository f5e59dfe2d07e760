"""Clean-up: snapshots retire by age and number, and their files go when no reader can need them."""

import os
from datetime import timedelta

import pytest
from store_fakes import content, crystals, embedded

from platonic_store.errors import SnapshotNotFound
from platonic_store.storage import bulk, cleanup, manifest
from platonic_store.store import Store

HOUR = 3600


def grow(store: Store, count: int) -> None:
    """Publish that many snapshots, each of which replaces files of the one before."""
    for number in range(count):
        newest = manifest.newest_id(store.location)
        store.ingest({f"n{newest}-{number}": crystals(1, seed=newest + 9)["c0"]})


def pass_time(store: Store, hours: float) -> None:
    """What was published and retired so far was so that much earlier."""
    for path in (*store.path.rglob("manifests/*"), *store.path.rglob("retired/*")):
        _age(path, hours)


def _age(path, hours: float) -> None:
    then = path.stat().st_mtime - hours * HOUR
    os.utime(path, (then, then))


def ids(store: Store) -> list[int]:
    return manifest.ids(store.location)


def files(store: Store) -> set[str]:
    """All that only a manifest can name."""
    folders = ("catalog", "rows", "vectors", "partial")
    found = (path for folder in folders for path in (store.path / folder).rglob("*"))
    names = {str(path.relative_to(store.path)) for path in found if path.is_file()}
    return {name for name in names if not name.endswith("latest_version_hint.json")}


def named(store: Store) -> set[str]:
    kept = (manifest.load(store.location, id) for id in ids(store))
    return {file.path for one in kept for file in one.files()}


@pytest.fixture
def old(store) -> Store:
    """Many snapshots, all but the newest of them three hours old."""
    store.ingest(crystals(3), ["fake-a"])
    grow(store, 15)
    pass_time(store, 3)
    return store


def test_nothing_goes_within_an_hour_however_much_is_published(store):
    store.ingest(crystals(3), ["fake-a"])
    grow(store, 15)
    pass_time(store, 0.9)
    first = Store.open(store.path, at=1)
    grow(store, 1)
    assert store.doctor() == {"problems": [], "mended": [], "removed": 0}
    assert ids(store) == list(range(1, ids(store)[-1] + 1))
    assert named(store) <= files(store)
    assert len(first.sql("FROM structure")) == 3


def test_the_last_ten_stay_however_old(old):
    last = ids(old)[-1]
    pass_time(old, 1000)
    grow(old, 1)
    assert ids(old) == list(range(last - 8, last + 2))
    grow(old, 1)
    assert ids(old) == list(range(last - 7, last + 3))


def test_one_that_was_the_newest_until_now_stays(store, monkeypatch):
    monkeypatch.setattr(cleanup, "KEEP_NUMBER", 1)
    store.ingest(crystals(3))
    pass_time(store, 1000)
    last = ids(store)[-1]
    grow(store, 1)
    assert ids(store) == [last, last + 1]


def test_files_go_an_hour_after_their_snapshot(old):
    """A reader may have opened it just before it retired."""
    first = Store.open(old.path, at=1).snapshot()
    before = files(old)
    grow(old, 1)
    assert 1 not in ids(old)
    with pytest.raises(SnapshotNotFound):
        Store.open(old.path, at=1)
    assert before < files(old)
    assert len(first.frame("FROM site")), "who has it open reads on"
    pass_time(old, 0.9)
    grow(old, 1)
    assert before < files(old)
    pass_time(old, 0.2)
    grow(old, 1)
    assert files(old) < before | named(old)
    # What is retired since may still be read.
    assert list((old.path / "retired").iterdir())
    pass_time(old, 3)
    grow(old, 1)
    pass_time(old, 3)
    grow(old, 1)
    assert len(embedded(old, "fake-a")) == 3
    assert old.doctor()["problems"] == []


def test_after_all_retired_only_what_is_named_is_left(old, monkeypatch):
    monkeypatch.setattr(cleanup, "KEEP_NUMBER", 1)
    for _ in range(3):
        pass_time(old, 3)
        grow(old, 1)
    (retired,) = (old.path / "retired").iterdir()
    last = manifest.from_bytes(retired.read_bytes(), "retired")
    assert len(ids(old)) == 2
    monkeypatch.setattr(cleanup, "UNNAMED_AGE", timedelta(seconds=-1))
    expected = content(old)
    assert old.doctor()["problems"] == []
    assert files(old) == named(old) | {file.path for file in last.files()}
    assert content(Store.open(old.path)) == expected


def test_a_pinned_snapshot_stays_for_ever(old):
    earlier = Store.open(old.path, at=2)
    expected = content(earlier)
    old.pin(2, "of the paper")
    for _ in range(3):
        pass_time(old, 30)
        grow(old, 1)
    assert ids(old)[0] == 2
    assert 3 not in ids(old)
    assert content(Store.open(old.path, at=2)) == content(earlier) == expected
    assert old.snapshots().iloc[-1][["snapshot", "pinned"]].tolist() == [2, "of the paper"]
    old.unpin(2)
    pass_time(old, 30)
    grow(old, 1)
    assert 2 not in ids(old)


def test_what_nothing_names_goes_after_a_day(store):
    """A worker may be about to have it named; a killed writer is not."""
    store.ingest(crystals(3), ["fake-a"])
    table = "vectors/fake-a.1.atom.lance"
    left = {
        *("catalog/ab.duckdb", "rows/crystals/ab.parquet", "partial/ab", f"{table}/data/ab.lance"),
        *("vectors/gone.0.atom.lance/data/ab.lance", f"{table}/_versions/ab.manifest"),
    }
    before = files(store)
    for name in left:
        (store.path / name).parent.mkdir(parents=True, exist_ok=True)
        (store.path / name).write_bytes(b"left")
        _age(store.path / name, 23)
    others = [store.path / name for name in ("notes.txt", "catalog.txt", "mine/a.parquet")]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
        _age(path, 1000)
    assert store.doctor()["removed"] == 0
    assert files(store) == before | left
    for name in left:
        _age(store.path / name, 2)
    store.ingest(crystals(3))
    assert files(store) >= left, "only `doctor` looks"
    assert store.doctor()["removed"] == len(left)
    assert files(store) == before | named(store)
    assert all(path.read_text() == "mine" for path in others)
    assert len(embedded(Store.open(store.path), "fake-a")) == 3


def test_a_table_is_written_on_after_its_left_overs_went(store, monkeypatch):
    """Lance may then number versions as the removed ones were."""
    store.ingest(crystals(3), ["fake-a"])
    seen = content(store)
    with monkeypatch.context() as patched, store._writing("die") as one:
        with one.writing():
            one.append("fake-a.1.atom", store.snapshot()._vectors._open("fake-a.1.atom").to_table())
        patched.setattr(manifest, "create", _die)
        with pytest.raises(KeyboardInterrupt):
            one.publish()
        one._is_changed = False
    monkeypatch.setattr(cleanup, "UNNAMED_AGE", timedelta(seconds=-1))
    assert files(store) > named(store)
    assert store.doctor()["removed"] > 0
    assert files(store) == named(store)
    assert content(store) == seen
    store.ingest(crystals(5), ["fake-a"])
    assert embedded(store, "fake-a") == set(crystals(5))
    assert embedded(Store.open(store.path), "fake-a") == set(crystals(5))
    assert store.doctor()["problems"] == []


def _die(*_):
    raise KeyboardInterrupt


def test_a_damaged_manifest_keeps_all_files(old):
    """What it named cannot be told."""
    path = old.path / manifest.key(ids(old)[-3])
    path.write_bytes(path.read_bytes()[:-9])
    before = files(old), ids(old)
    pass_time(old, 30)
    old.doctor()
    assert (files(old), ids(old)) == before


def test_a_long_job_reads_rows_whose_files_were_merged_and_removed(old, monkeypatch):
    monkeypatch.setattr(cleanup, "KEEP_NUMBER", 1)
    monkeypatch.setattr(bulk, "to_merge", lambda sizes: len(sizes) if len(sizes) > 1 else 0)
    first = manifest.load(old.location, ids(old)[-1]).rows["crystals"]
    with old._writing("long") as one:
        for number in range(4):
            with one.writing():
                rows = old.snapshot().cursor().execute("FROM crystals LIMIT 1").to_arrow_table()
                rows = rows.set_column(0, "structure_id", [[f"more-{number}"]])
                one.add_rows("crystals", rows)
            one.publish()
            pass_time(old, 3)
            one.clean_up()
        assert not any((old.path / file.path).exists() for file in first)
        with one.reading() as connection:
            found = connection.exec_driver_sql("SELECT count(*) FROM crystals").scalar()
        assert found == 18 + 4


def test_what_was_merged_before_it_was_named_goes_at_once(store, monkeypatch):
    monkeypatch.setattr("platonic_store.engines.local.CHUNK_BYTES", 100)
    store.ingest(crystals(30), ["fake-a"])
    named = {
        file.path
        for one in manifest.ids(store.location)
        for file in manifest.load(store.location, one).files()
    }
    data = {key for key in files(store) if "/data/" in key}
    assert data <= named
