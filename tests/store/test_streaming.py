"""A model embeds what is new while its source is read, and nobody can tell from what is stored."""

import sys

import ase.io
import pyarrow as pa
import pytest
from store_fakes import PoolOfNone, content, crystals, embedded, know_fakes

from platonic_store.engines import local
from platonic_store.errors import ConflictingStructure, UnreadableSource
from platonic_store.jobs import reading
from platonic_store.runtimes import forkserver
from platonic_store.storage import records
from platonic_store.store import Store

POOL = crystals(40)
STRUCTURES = "SELECT * EXCLUDE (added_at) FROM structure ORDER BY structure_id"


@pytest.fixture
def seen(monkeypatch) -> list:
    """What is done in which order: batches that are in the catalogue, requests to a model."""
    events: list[tuple[str, tuple[str, ...]]] = []
    add_batch = records.add_batch

    class Pool(PoolOfNone):
        def embed(self, batches, when_idle=None):
            for answer in super().embed(batches):
                events.append(("embedded", tuple(answer.table["id"].unique().to_pylist())))
                yield answer

    def add(writer, source, batch):
        added = add_batch(writer, source, batch)
        events.append(("catalogued", tuple(batch.structures["id"].to_pylist())))
        return added

    know_fakes(small_chunks=True, in_process=True, patch=monkeypatch.setattr)
    monkeypatch.setattr(local, "WorkerPool", Pool)
    monkeypatch.setattr(records, "add_batch", add)
    monkeypatch.setattr(reading, "BATCH", 8)
    return events


@pytest.fixture
def store(seen, tmp_path) -> Store:
    return Store.open(tmp_path / "test.store")


def of(events: list, kind: str) -> list[tuple[str, ...]]:
    return [ids for what, ids in events if what == kind]


def test_the_first_are_embedded_before_the_last_are_read(seen, tmp_path):
    store = Store.open(tmp_path / "a.store")
    source, (one, other) = store.ingest(POOL, ["fake-a", "fake-b"])
    assert (source.new, one.structures, other.structures) == (40, 40, 40)
    assert len(of(seen, "catalogued")) == 5
    assert "embedded" in [what for what, _ in seen[: len(seen) // 2]]
    first = next(place for place, (what, _) in enumerate(seen) if what == "embedded")
    assert len(of(seen[:first], "catalogued")) < 5
    assert store.doctor()["problems"] == []


@pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked elsewhere")
def test_the_model_that_is_ready_first_begins(store, tmp_path, monkeypatch):
    store.ingest(POOL, ["fake-a", "fake-b"])
    monkeypatch.undo()
    monkeypatch.setenv("PLATONIC_STORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(forkserver, "usable_cores", lambda: 2)
    know_fakes("a waits for b", patch=monkeypatch.setattr)
    raced = Store.open(tmp_path / "raced.store")
    _, runs = raced.ingest(POOL, ["fake-a", "fake-b"])
    assert [(run.model, run.structures) for run in runs] == [("fake-a", 40), ("fake-b", 40)]
    assert [*raced.sql("SELECT model FROM run ORDER BY started_at").model] == ["fake-b", "fake-a"]
    assert content(raced) == content(store)
    assert [*raced.snapshot().models] == ["fake-a", "fake-b"], "the first is asked by default"
    _, runs = raced.ingest(POOL, ["fake-a", "fake-b"])
    assert [run.run for run in runs] == [0, 0]


def test_a_model_sees_the_same_requests_whatever_the_order_and_the_way(seen, tmp_path):
    found = []
    for name, pool in (("a", POOL), ("b", dict(reversed(POOL.items())))):
        seen.clear()
        store = Store.open(tmp_path / f"{name}.store")
        store.ingest(pool, ["fake-a"])
        found.append((of(seen, "embedded"), content(store), store.sql(STRUCTURES).to_csv()))
    seen.clear()
    store = Store.open(tmp_path / "c.store")
    store.ingest(POOL)
    store.ingest(models=["fake-a"])
    found.append((of(seen, "embedded"), content(store), store.sql(STRUCTURES).to_csv()))
    assert found[0] == found[1] == found[2]
    assert sorted(id_ for ids in found[0][0] for id_ in ids) == sorted(POOL)


def test_what_is_there_already_is_not_embedded_again_and_what_lacks_a_layer_gets_it(seen, store):
    some = {id_: POOL[id_] for id_ in list(POOL)[:10]}
    store.ingest(some, ["fake-a"], layers="1")
    store.ingest({id_: POOL[id_] for id_ in list(POOL)[10:20]})
    seen.clear()
    _, (run,) = store.ingest(POOL, ["fake-a"], layers="all")
    assert run.structures == 40
    streamed, *_ = of(seen, "embedded")
    assert not {*streamed} & {*some}
    assert embedded(store, "fake-a", 0) == embedded(store, "fake-a", 1) == {*POOL}
    _, (run,) = store.ingest(POOL, ["fake-a"], layers="all")
    assert run.run == 0
    assert store.doctor()["problems"] == []


def test_records_that_cannot_be_used_do_not_stop_the_others(seen, store):
    overlapping = ase.Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.01]], cell=[4, 4, 4], pbc=True)
    lawrencium = ase.Atoms("Lr", cell=[4, 4, 4], pbc=True)
    items = list(POOL.items())
    source = [*items[:20], ("bad", overlapping), ("none", "no crystal"), ("lr", lawrencium)]
    report, (run,) = store.ingest(source + items[20:], ["fake-a"])
    assert (report.new, report.rejected, run.structures, run.rejected) == (41, 2, 40, 1)
    ((rejected,),) = store.sql("SELECT rejected FROM run").itertuples(index=False)
    assert rejected == 1
    reasons = store.sql("SELECT structure_id FROM quarantine").structure_id
    assert sorted(reasons) == ["bad", "lr", "none"]


def test_what_a_model_rejects_is_tried_once(store, monkeypatch):
    tried = []

    class Pool(PoolOfNone):
        def embed(self, batches, when_idle=None):
            for answer in super().embed(batches):
                ids = answer.table["id"].to_pylist()
                tried.extend(id_ for id_ in ids if id_ == "c7")
                keep = [place for place, id_ in enumerate(ids) if id_ != "c7"]
                yield answer._replace(
                    table=answer.table.take(pa.array(keep, pa.int64())),
                    rejected=[("c7", "too much")] if "c7" in ids else [],
                )

    monkeypatch.setattr(local, "WorkerPool", Pool)
    _, (run,) = store.ingest(POOL, ["fake-a"])
    assert (run.structures, run.rejected) == (39, 1)
    assert len(set(tried)) == 1
    assert len(tried) == len(POOL["c7"])


def test_a_source_that_ends_early_or_contradicts_itself(seen, store, tmp_path):
    path = tmp_path / "cut.extxyz"
    ase.io.write(path, list(POOL.values()))
    whole = path.read_text()
    path.write_text(whole[: int(len(whole) * 0.8)])
    with pytest.raises(UnreadableSource):
        store.ingest(path, ["fake-a"])
    (state,) = store.sql("SELECT state FROM run").state
    assert state == "failed"
    kept = embedded(store, "fake-a")
    path.write_text(whole)
    _, (run,) = store.ingest(path, ["fake-a"])
    assert run.structures == 40 - len(kept)
    assert len(embedded(store, "fake-a")) == 40

    stranger = crystals(1, seed=9)["c0"]
    with pytest.raises(ConflictingStructure, match="c0"):
        store.ingest([*POOL.items(), ("c0", stranger)], ["fake-a"])
    store.ingest(POOL, ["fake-a"])
    assert {*POOL} <= embedded(store, "fake-a")
    assert store.doctor()["problems"] == []


def test_a_source_without_ids_and_with_odd_properties(seen, tmp_path):
    pool = [atoms.copy() for atoms in POOL.values()]
    for number, atoms in enumerate(pool):
        atoms.info = {"n": number, "what": {"deep": [number]}, "how": lambda: None}
    one, other = Store.open(tmp_path / "a.store"), Store.open(tmp_path / "b.store")
    one.ingest(pool, ["fake-a"])
    other.ingest(pool[::-1])
    query = "SELECT structure_id, n, what FROM structure ORDER BY structure_id"
    assert one.sql(query).equals(other.sql(query))
