"""What is deleted is noted beside large files, and never seen again."""

import shutil

import duckdb
import pyarrow as pa
import pyarrow.parquet
import pytest
import test_bulk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_fakes import content, crystals, know_fakes

from platonic_store.storage import bulk, lookup
from platonic_store.store import Store

POOL, OTHERS = crystals(20), crystals(20, seed=1)
IDS = [f"c{n:02}" for n in range(24)]
SOME = st.lists(st.sampled_from(IDS), min_size=1, max_size=12, unique=True)


def rows(ids, version) -> pa.Table:
    """Crystals, of which another version has other cells."""
    table = test_bulk.crystals(ids)
    cells = pa.array([[float(version)] * 9] * len(ids), table["cell"].type)
    return table.set_column(table.column_names.index("cell"), "cell", cells)


def seen(snapshot) -> list[tuple]:
    found = snapshot.rows("SELECT structure_id, cell[1] FROM crystals ORDER BY structure_id")
    one = IDS[0]
    by_id = snapshot.rows(
        f"SELECT structure_id, cell[1] FROM crystals WHERE structure_id = '{one}'"
    )
    assert by_id == [row for row in found if row[0] == one]
    return found


def streamed(writer) -> list[tuple]:
    parts = [*writer.rows_of("crystals", pa.array(sorted(IDS)))]
    return [(row["structure_id"], row["cell"][0]) for part in parts for row in part.to_pylist()]


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(st.tuples(st.booleans(), SOME, st.integers(0, 1)), max_size=14))
def test_any_order_of_adding_and_deleting(tmp_path_factory, steps):
    """What was deleted may come again as it was, or as something else."""
    store = Store.open(tmp_path_factory.mktemp("any") / "any.store")
    known: dict[str, int] = {}
    earlier = []
    with pytest.MonkeyPatch.context() as patched, store._writing("steps", create=True) as writer:
        patched.setattr(bulk, "MOST_DELETED", 0.5)
        for is_added, ids, version in [(True, IDS, 0), *steps]:
            with writer.writing():
                if is_added:
                    new = [id_ for id_ in ids if id_ not in known]
                    writer.add_rows("crystals", rows(new, version))
                    known |= dict.fromkeys(new, version)
                else:
                    writer.delete_rows_of("crystals", ids)
                    known = {id_: known[id_] for id_ in known if id_ not in ids}
            assert streamed(writer) == sorted(known.items())
            snapshot = writer.snapshot()
            assert seen(snapshot) == sorted(known.items())
            earlier.append((snapshot, sorted(known.items())))
    for snapshot, expected in earlier:
        assert seen(snapshot) == expected


def test_what_comes_again_as_it_was_is_seen(tmp_path, monkeypatch):
    """The merged file then has the name of the one from which it was deleted."""
    monkeypatch.setattr(bulk, "MOST_DELETED", 0.5)
    store = Store.open(tmp_path / "again.store")
    files = []
    with store._writing("again", create=True) as writer:
        for change in (
            lambda: writer.add_rows("crystals", rows(IDS, 0)),
            lambda: writer.delete_rows_of("crystals", IDS[:3]),
            lambda: writer.add_rows("crystals", rows(IDS[:3], 0)),
        ):
            with writer.writing():
                change()
            named = writer.snapshot().manifest.rows
            files.append((named["crystals"], bool(named.get(bulk.DELETED))))
    (first, _), (second, is_noted), (third, is_still_noted) = files
    assert first == second == third
    assert (is_noted, is_still_noted) == (True, False)
    assert seen(store.snapshot()) == [(id_, 0.0) for id_ in IDS]


def test_a_file_is_written_anew_when_much_of_it_is_deleted(tmp_path):
    store = Store.open(tmp_path / "few.store")
    ids = [f"c{n:03}" for n in range(100)]
    left = []
    with store._writing("delete", create=True) as writer:
        with writer.writing():
            writer.add_rows("crystals", rows(ids, 0))
        for gone in (ids[:4], ids[:10], ids[:11], ids):
            with writer.writing():
                writer.delete_rows_of("crystals", gone)
            named = writer.snapshot().manifest.rows
            left.append([len(named.get(table, [])) for table in ("crystals", bulk.DELETED)])
            (path, *_) = [*named.get("crystals", []), None]
            left[-1].append(
                pa.parquet.read_metadata(store.path / path.path).num_rows if path else 0
            )
    assert left == [[1, 1, 100], [1, 1, 100], [1, 0, 89], [0, 0, 0]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store with something of everything."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patched:
        know_fakes(in_process=True, patch=patched.setattr)
        store = Store.open(folder / "whole.store")
        store.ingest(POOL, ["fake-a"], outputs="energy,forces")
        store.select_anchors(k=4, model="fake-a")
        store.project(recipe="cosine")
        store.score()
        store.map()
    return store


def everything(store: Store) -> dict:
    snapshot = store.snapshot()
    tables = [name for name in bulk.SCHEMAS if name != bulk.DELETED]
    found = {
        name: snapshot.execute(f"FROM {name} ORDER BY ALL").to_arrow_table() for name in tables
    }
    found |= {
        name: snapshot.execute(f"FROM {name} ORDER BY ALL").to_arrow_table()
        for name in ("site", "typicality")
    }
    layouts = [lookup.layout(snapshot, level) for level in ("structure", "atom")]
    points = [(one.points.tolist(), one.xy.tolist()) for one in layouts]
    return {
        name: table.drop([*{"run"} & {*table.column_names}]) for name, table in found.items()
    } | {"layouts": points, "vectors": content(store)}


def test_what_is_noted_and_what_is_written_anew_are_the_same(fakes, whole, tmp_path, monkeypatch):
    """Whatever is then done, and where it is read."""
    free = sorted({*POOL} - {*whole.sql("SELECT structure_id FROM anchor").structure_id})
    before, stores = everything(whole), []
    for share in (0.0, 0.4):
        monkeypatch.setattr(bulk, "MOST_DELETED", share)
        shutil.copytree(whole.path, tmp_path / f"{share}.store")
        stores.append(Store.open(tmp_path / f"{share}.store"))
    written, noted = stores

    def both(job):
        for store, share in zip(stores, (0.0, 0.4), strict=True):
            monkeypatch.setattr(bulk, "MOST_DELETED", share)
            job(store)
        assert everything(noted) == everything(written)

    both(lambda store: store.delete(free[:5]))
    named = [{*store.snapshot().manifest.rows} for store in stores]
    assert named[1] - named[0] == {bulk.DELETED}
    noted.copy(tmp_path / "copy.store")
    assert everything(Store.open(tmp_path / "copy.store")) == everything(noted)
    with duckdb.connect() as client:
        client.execute(noted.init_sql())
        count = client.execute("SELECT count(DISTINCT structure_id) FROM site").fetchall()
        assert count == [(len(POOL) - 5,)]
    again = {id_: POOL[id_] for id_ in free[:3]}
    others = {id_: OTHERS[id_] for id_ in free[3:5]}
    both(lambda store: store.ingest(again | others, ["fake-a"], outputs="energy,forces"))
    both(lambda store: (store.project(recipe="cosine"), store.score(), store.map()))
    both(lambda store: store.delete(free[3:6]))
    assert [store.doctor(deep=True)["problems"] for store in stores] == [[], []]
    assert everything(Store.open(noted.path, at=whole.snapshot().id)) == before
