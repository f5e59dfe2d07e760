"""Snapshots: values that readers open, and that one writer at a time adds to."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from gc import collect
from weakref import ref

import pandas as pd
import pytest
from store_fakes import content, crystals, embedded, know_fakes

from platonic_store.errors import (
    LeaseLost,
    SnapshotNotFound,
    StoreBusy,
    StoreDamaged,
    StoreNotFound,
    StoreNotWritable,
)
from platonic_store.storage import lease, manifest, reader, writer
from platonic_store.store import Store


def new(seed: int) -> dict:
    """One crystal under an id of its own."""
    return {f"new-{seed}": crystals(1, seed=seed)["c0"]}


VIEWS = ("structure", "site", "run", "typicality", "atom_typicality")


def answers(store: Store) -> tuple:
    """What a store says, of all kinds."""
    return (
        content(store),
        *(store.sql_arrow(f"FROM {view} ORDER BY ALL").to_pylist() for view in VIEWS),
        store.similar("c1", model="fake-a")[["structure_id", "distance"]].values.tolist(),
    )


def test_a_state_is_one_snapshot_until_the_next(store):
    with pytest.raises(StoreNotFound):
        store.snapshot()
    store.ingest(crystals(3), ["fake-a"])
    first = store.snapshot()
    assert store.snapshot() is first
    assert len(store.similar("c1")) == 2
    assert store.snapshot() is first, "a query opens nothing"
    store.ingest(new(3), ["fake-a"])
    second = store.snapshot()
    assert second.id > first.id
    with first as same:
        assert len(same.frame("FROM structure")) == 3
    assert len(second.frame("FROM structure")) == 4
    other = Store.open(store.path).snapshot()
    assert other is not second
    assert (other.id, other.manifest) == (second.id, second.manifest)


def test_each_snapshot_comes_from_the_one_before(store):
    store.ingest(crystals(3), ["fake-a"])
    store.ingest(new(1), ["fake-a"])
    made = [manifest.load(store.location, id) for id in manifest.ids(store.location)]
    assert [one.id for one in made] == list(range(1, len(made) + 1))
    assert [one.parent for one in made] == [None, *range(1, len(made))]
    assert len({one.store for one in made}) == 1
    assert len({one.writer for one in made}) == 2
    assert (made[0].structures, made[-1].structures) == (3, 4)


def test_a_snapshot_is_closed_when_nobody_has_it(store):
    store.ingest(crystals(3), ["fake-a"])
    gone = ref(store.snapshot().connection)
    store.ingest(crystals(4), ["fake-a"])
    store.snapshot()
    collect()
    assert gone() is None


def test_a_store_made_anew_in_the_same_place_is_another(store):
    store.ingest(crystals(3), ["fake-a"])
    old, count = store.snapshot(), len(manifest.ids(store.location))
    assert len(old.points(old.tables[0]).vectors)
    shutil.rmtree(store.path)
    store.ingest(crystals(5, seed=1), ["fake-a"])
    assert len(manifest.ids(store.location)) == count, "under the same numbers"
    assert len(store.sql("FROM structure")) == 5
    assert len(embedded(store, "fake-a")) == 5
    assert store.snapshot().manifest.store != old.manifest.store
    assert len(old.frame("FROM structure")) == 3, "its file is still open"


def test_who_asks_again_is_told_the_same(store):
    """From the second time on structures are described, and their vectors read, from memory."""
    sources = crystals(6)
    for number, atoms in enumerate(sources.values()):
        atoms.info["known_of_some"] = number if number % 2 else None
    store.ingest(sources, ["fake-a"])
    snapshot, ids = store.snapshot(), [*list(sources)[1::2], *list(sources)[1:4:2]]
    first, again = snapshot.describe(ids), snapshot.describe(ids)
    assert "_structures" in snapshot.__dict__
    assert first["structure_id"].tolist() == ids
    assert first["known_of_some"].tolist() == [1, 3, 5, 1, 3]
    pd.testing.assert_frame_equal(first, again)
    table = next(one for one in snapshot.tables if one.level == "atom")
    for id_ in ids:
        alone, whole = (store.snapshot().of_structure(table, id_) for _ in range(2))
        assert alone.keys.sort_by("site_index") == whole.keys.sort_by("site_index")
        assert len(whole.vectors) == len(sources[id_])
    assert snapshot.has_structure(ids[0])
    assert not snapshot.has_structure("nobody")


def test_many_threads_share_a_snapshot(store):
    store.ingest(crystals(8), ["fake-a"])
    expected = store.similar("c1", where="nsites > 1")
    fresh = Store.open(store.path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: fresh.similar("c1", where="nsites > 1"), range(64)))
        assert len(set(pool.map(lambda _: id(fresh.snapshot()), range(64)))) == 1
    assert all(one.equals(expected) for one in found)


def test_an_earlier_snapshot_answers_the_same_for_ever(store, monkeypatch):
    """After ingest, anchors, projection, scores, deletion and compaction."""
    know_fakes(small_chunks=True, in_process=True, patch=monkeypatch.setattr)
    store.ingest(crystals(40), ["fake-a"], batch_atoms=16)
    store.score()
    then = store.snapshot().id
    earlier = Store.open(store.path, at=then)
    expected = answers(earlier)
    assert expected == answers(store)
    work = [
        lambda: store.ingest({**new(7), **new(8)}, ["fake-a", "fake-b"], layers="all"),
        lambda: store.select_anchors(k=4, seed=1),
        lambda: store.project(["fake-a"]),
        lambda: store.score(["fake-a"], renew=True),
        lambda: store.delete(sorted(set(crystals(40)) - _anchored(store) - {"c1"})[:30]),
        store.doctor,
    ]
    for step in work:
        before = store.snapshot().id
        step()
        assert store.snapshot().id > before
        assert answers(earlier) == expected, "one that is open"
        assert answers(Store.open(store.path, at=then)) == expected, "one that is opened now"
    assert answers(store) != expected


def _anchored(store: Store) -> set[str]:
    return set(store.sql("SELECT structure_id FROM anchor").structure_id)


def test_an_earlier_snapshot_is_read_only(store):
    store.ingest(crystals(3), ["fake-a"])
    earlier = Store.open(store.path, at=1)
    for write in (
        lambda: earlier.ingest(crystals(4)),
        lambda: earlier.delete(["c1"]),
        earlier.project,
        earlier.doctor,
    ):
        with pytest.raises(StoreNotWritable, match="opened at snapshot 1, which never changes"):
            write()
    with pytest.raises(StoreNotWritable, match="opened read-only"):
        Store.open(store.path, read_only=True).delete(["c1"])
    with pytest.raises(SnapshotNotFound, match="has no snapshot 99") as unknown:
        Store.open(store.path, at=99)
    assert "\n" not in str(unknown.value)


def test_what_was_done_is_listed_the_newest_first(store):
    store.ingest(crystals(3), ["fake-a"])
    store.delete(["c2"])
    listed = store.snapshots()
    assert listed.snapshot.tolist() == manifest.ids(store.location)[::-1]
    assert listed.change.tolist()[0] == "delete 1 structures"
    assert all(change.startswith("ingest ") for change in listed.change[1:])
    assert listed.structures.tolist()[0] == 2
    assert listed.structures.tolist()[-1] == 3
    sites = len(store.sql("FROM site"))
    assert listed.vectors.tolist()[0] == sites + 2
    assert listed.created_at.is_monotonic_decreasing
    assert (listed.MB > 0).all()
    assert listed.pinned.isna().all()
    store.pin(2, "of the paper")
    assert store.snapshots().set_index("snapshot").pinned.dropna().to_dict() == {2: "of the paper"}
    store.unpin(2)
    assert store.snapshots().pinned.isna().all()
    with pytest.raises(SnapshotNotFound):
        store.pin(99)


def test_nothing_is_published_where_nothing_is_done(store):
    store.ingest(crystals(8), ["fake-a"])
    store.doctor()
    before = store.snapshot()
    files = {path for path in store.path.rglob("*") if path.is_file()}
    store.doctor()
    for path in store.path.rglob("*"):
        assert path.is_dir() or path in files or path.parent.name == "lease"
    assert store.snapshot() is before


def test_a_job_publishes_as_often_as_that_costs_little(store, monkeypatch):
    know_fakes(small_chunks=True, in_process=True, patch=monkeypatch.setattr)

    def published(seed: int) -> int:
        before = store.snapshot().id if manifest.ids(store.location) else 0
        pool = {f"{seed}-{id_}": atoms for id_, atoms in crystals(20, seed=seed).items()}
        store.ingest(pool, ["fake-a"], batch_atoms=16)
        return store.snapshot().id - before

    monkeypatch.setattr(writer, "PUBLISH_SHARE", 1e-9)
    few = published(1)
    monkeypatch.setattr(writer, "PUBLISH_SHARE", 1e9)
    assert published(2) > few + 3
    monkeypatch.setattr(writer, "PUBLISH_SHARE", 1e-9)
    monkeypatch.setattr(writer, "PUBLISH_SECONDS", 0.0)
    assert published(3) > few + 3, "however much it costs"


def test_a_writer_shows_readers_what_it_has_published_and_no_more(store):
    with store._writing("test", create=True) as one:
        with one.writing() as connection:
            connection.exec_driver_sql("INSERT INTO sources (id, uri) VALUES (1, 'a')")
        with pytest.raises(StoreNotFound):
            store.snapshot()
        one.publish()
        with one.writing() as connection:
            connection.exec_driver_sql("INSERT INTO sources (id, uri) VALUES (2, 'b')")
        with suppress(ZeroDivisionError), one.writing() as connection:
            connection.exec_driver_sql("INSERT INTO sources (id, uri) VALUES (3, 'c')")
            raise ZeroDivisionError
        with one.reading() as connection:
            assert _sources(connection.exec_driver_sql) == ["a", "b"]
        assert _sources(store.snapshot().cursor().execute) == ["a"]
        assert _sources(one.snapshot().cursor().execute) == ["a", "b"]
    assert _sources(store.snapshot().cursor().execute) == ["a", "b"]


def _sources(execute) -> list[str]:
    name = "sources" if execute.__name__ == "exec_driver_sql" else "catalog.main.sources"
    return [uri for (uri,) in execute(f"SELECT uri FROM {name} ORDER BY id").fetchall()]


def test_runs_of_a_dead_writer_are_interrupted(store):
    store.ingest(crystals(3), ["fake-a"])
    before = content(store)
    with store._writing("as if killed") as one, one.writing() as connection:
        connection.exec_driver_sql("UPDATE runs SET state = 'running'")
    assert store.sql("FROM run")["state"].tolist() == ["running"]
    fresh = Store.open(store.path)
    fresh.doctor()
    assert fresh.sql("FROM run")["state"].tolist() == ["interrupted"]
    assert store.sql("FROM run")["state"].tolist() == ["interrupted"]
    assert content(fresh) == before


def test_a_reader_that_was_idle_sees_what_is_new(store, monkeypatch):
    store.ingest(crystals(3), ["fake-a"])
    idle = Store.open(store.path)
    first = idle.snapshot()
    for seed in range(3):
        store.ingest(new(seed))
    # Those that follow the one that it knows are gone too.
    for id in manifest.ids(store.location)[:-1]:
        (store.path / manifest.key(id)).unlink()
    assert idle.snapshot().manifest == store.snapshot().manifest
    assert len(idle.sql("FROM structure")) == 6
    assert len(first.frame("FROM structure")) == 3
    same = idle.snapshot()
    monkeypatch.setattr(reader, "_TRUST_SECONDS", -1.0)
    assert idle.snapshot() is same, "it looks from the start, and finds what it has"
    store.ingest(new(4))
    assert len(idle.sql("FROM structure")) == 7


@pytest.mark.parametrize("damage", [None, b"", b"half a manif", b"{}"])
def test_the_note_of_the_newest_snapshot_is_but_a_hint(store, damage):
    store.ingest(crystals(2))
    stale = (store.path / manifest.NEWEST).read_bytes()
    for seed in range(2):
        store.ingest(new(seed))
    (store.path / manifest.NEWEST).write_bytes(stale)
    newest = store.snapshot().id
    assert Store.open(store.path).snapshot().id == newest
    (store.path / manifest.key(1)).unlink()
    if damage is None:
        (store.path / manifest.NEWEST).unlink()
    else:
        (store.path / manifest.NEWEST).write_bytes(damage)
    fresh = Store.open(store.path)
    assert fresh.snapshot().id == newest
    fresh.ingest(new(5))
    assert fresh.snapshot().id == newest + 1
    assert len(Store.open(store.path).sql("FROM structure")) == 5


def test_files_that_no_manifest_names_are_nobodys(store):
    store.ingest(crystals(2), ["fake-a"])
    before = content(store)
    for name in ("catalog/ab.duckdb", "rows/crystals/ab.parquet", "partial/ab", "working/x/y"):
        (store.path / name).parent.mkdir(parents=True, exist_ok=True)
        (store.path / name).write_bytes(b"half")
    (store.path / "vectors" / "fake-a.1.atom.lance" / "data" / "ab.lance").write_bytes(b"half")
    assert content(Store.open(store.path)) == before
    store.ingest(crystals(3), ["fake-a"])
    assert embedded(Store.open(store.path), "fake-a") == {"c0", "c1", "c2"}
    assert store.doctor()["problems"] == []
    assert not (store.path / "working" / "x").exists()


def test_a_damaged_manifest_is_said_in_one_line(store):
    store.ingest(crystals(2))
    path = store.path / manifest.key(1)
    path.write_bytes(path.read_bytes().replace(b'"structures": 2', b'"structures": 3'))
    with pytest.raises(StoreDamaged, match=r"manifest 1 of .* its checksum does not fit") as found:
        Store.open(store.path).snapshot()
    assert "\n" not in str(found.value)


@pytest.fixture
def lapsing(monkeypatch):
    """Makes every lease that is held lapse at once, as if its holder had been asleep."""

    def lapse():
        monkeypatch.setattr(lease, "_is_dead", lambda holder: True)

    return lapse


def test_whoever_lost_the_lease_publishes_nothing(store, lapsing):
    store.ingest(crystals(3), ["fake-a"])
    before = store.snapshot().id
    lapsing()

    def both():
        with store._writing("asleep") as asleep:
            with asleep.writing() as connection:
                connection.exec_driver_sql("DELETE FROM structures")
            with Store.open(store.path)._writing("awake") as awake:
                with awake.writing() as connection:
                    connection.exec_driver_sql("UPDATE runs SET device = 'abacus'")
                # It wakes while its successor is at work.
                with asleep.writing():
                    asleep.append("fake-a.1.atom", _rows(store, "fake-a.1.atom"))
                    asleep.add_rows("crystals", _crystals(store))
                with pytest.raises(LeaseLost):
                    asleep.publish()

    with pytest.raises(LeaseLost, match=r"process \d+ on .* took over the writing") as lost:
        both()
    assert "\n" not in str(lost.value)
    assert store.snapshot().id == before + 1
    assert store.sql("SELECT device FROM run").device.tolist() == ["abacus"]
    assert embedded(store, "fake-a") == {"c0", "c1", "c2"}
    assert store.doctor()["problems"] == []


def _rows(store, name):
    return store.snapshot()._vectors._open(name).to_table()


def _crystals(store):
    return store.snapshot().cursor().execute("FROM crystals").to_arrow_table()


def test_one_that_wakes_leaves_its_successors_files_alone(store, lapsing):
    """It clears up behind itself while the successor writes, who then publishes."""
    store.ingest(crystals(3), ["fake-a"])
    lapsing()
    asleep, awake = Store.open(store.path), Store.open(store.path)
    begun, taken, woken = threading.Event(), threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def sleep():
        try:
            with asleep._writing("asleep") as one, one.writing() as connection:
                connection.exec_driver_sql("DELETE FROM structures")
                begun.set()
                assert taken.wait(60)
        except LeaseLost as error:
            errors.append(error)
        finally:
            woken.set()

    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    assert begun.wait(60)
    with awake._writing("awake") as one:
        with one.writing():
            one.add_rows("crystals", _crystals(store).slice(0, 0))
        taken.set()
        assert woken.wait(60)
        with one.writing() as connection:
            connection.exec_driver_sql("UPDATE runs SET device = 'abacus'")
    sleeper.join()
    assert [type(error) for error in errors] == [LeaseLost]
    assert store.sql("SELECT device FROM run").device.tolist() == ["abacus"]
    assert store.doctor()["problems"] == []


def test_of_two_that_publish_the_same_number_one_does(store, lapsing, monkeypatch):
    """Even if the first falls asleep after it saw that it had the lease."""
    store.ingest(crystals(3), ["fake-a"])
    before = store.snapshot().id
    create = manifest.create

    def late(location, made):
        monkeypatch.setattr(manifest, "create", create)
        lapsing()
        Store.open(store.path).ingest(new(5))
        return create(location, made)

    def both():
        with store._writing("one") as one:
            with one.writing() as connection:
                connection.exec_driver_sql("UPDATE runs SET device = 'abacus'")
            monkeypatch.setattr(manifest, "create", late)
            with pytest.raises(LeaseLost, match=f"has published snapshot {before + 1} of"):
                one.publish()

    with pytest.raises(LeaseLost, match="took over"):
        both()
    assert manifest.ids(store.location)[-1] == before + 1
    assert store.sql("SELECT device FROM run").device.tolist() == ["cpu"]
    assert "new-5" in set(store.sql("FROM structure").structure_id)
    assert store.doctor()["problems"] == []


def test_a_second_writer_is_told_who_the_first_is(store):
    store.ingest(crystals(3))
    with store._writing("long"), pytest.raises(StoreBusy, match="since") as busy:
        Store.open(store.path).ingest(new(1))
    text = str(busy.value)
    assert f"process {lease.os.getpid()} on {lease.socket.gethostname()} is writing" in text
    assert "\n" not in text
    Store.open(store.path).ingest(new(1))


def test_of_no_store_and_no_pin_a_line_is_said_and_nothing_made(store):
    for ask in (store.snapshots, lambda: store.doctor(repair=True)):
        with pytest.raises(StoreNotFound, match="there is no store at"):
            ask()
    assert not store.path.exists()
    store.ingest(crystals(2), ["fake-a"])
    with pytest.raises(SnapshotNotFound, match="snapshot 1 is not pinned"):
        store.unpin(1)
