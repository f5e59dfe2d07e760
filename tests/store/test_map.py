"""The map in the store: fitted once, brought up to date, gone in due time."""

from shutil import copytree

import numpy as np
import pandas as pd
import pytest
from kill_points import Deadly
from store_fakes import crystals, know_fakes

from platonic_store.errors import AnchorsNotFound, MapNotFound
from platonic_store.geometry.layout import place
from platonic_store.jobs import map as mapping
from platonic_store.storage import lookup
from platonic_store.store import Store

POOL = crystals(60)
MODELS = ["fake-a", "fake-b"]
VIEWS = ("structure_map", "atom_map")


def first(count: int) -> dict:
    return dict(list(POOL.items())[:count])


def maps(store: Store) -> dict[str, pd.DataFrame]:
    return {view: store.sql(f"FROM {view} ORDER BY ALL") for view in VIEWS}


def same(one: dict[str, pd.DataFrame], other: dict[str, pd.DataFrame]) -> None:
    for view, frame in one.items():
        pd.testing.assert_frame_equal(frame, other[view], rtol=1e-4, atol=1e-4)


@pytest.fixture
def flat(monkeypatch) -> None:
    """Layouts are principal axes, which take no time, where it does not matter what they are."""
    monkeypatch.setattr(mapping.geometry, "FEW", 10_000)


@pytest.fixture
def projected(store) -> Store:
    store.ingest(first(50), MODELS)
    store.select_anchors(k=20, model="fake-a")
    store.project()
    return store


def test_every_model_and_the_consensus_lie_on_it(projected):
    with pytest.raises(MapNotFound, match="no map"):
        lookup.layout(projected.snapshot())
    projected.map()
    distinct = int(
        projected.sql("SELECT sum(distinct_sites) FROM catalog.main.structures").iloc[0, 0]
    )
    for view, count in (("structure_map", 50), ("atom_map", distinct)):
        rows = projected.sql(
            f"SELECT model, layer, count(*) AS n, max(greatest(abs(x), abs(y))) AS far FROM {view} "
            "GROUP BY ALL ORDER BY model"
        )
        assert rows["model"].tolist() == ["consensus", *MODELS]
        assert rows["layer"].isna().tolist() == [True, False, False]
        assert rows["n"].tolist() == [count] * 3
        assert rows["far"].between(0.5, 1.5).all()
    assert projected.doctor()["problems"] == []


def test_what_is_placed_is_what_the_stored_layout_places(projected):
    projected.map()
    snapshot = projected.snapshot()
    space = lookup.map_space(snapshot)
    points = projected.embeddings("fake-b", level="structure", space=space).to_pandas()
    xy = place(lookup.layout(snapshot, "structure"), np.stack(points["vector"]))
    stored = projected.sql("FROM structure_map WHERE model = 'fake-b'").set_index("structure_id")
    np.testing.assert_allclose(xy, stored.loc[points["structure_id"], ["x", "y"]], atol=1e-5)


def test_again_does_nothing_and_what_is_new_moves_nothing(projected, flat):
    projected.map()
    before, snapshot = maps(projected), projected.snapshot().id
    assert {done.new_points for done in projected.map()} == {0}
    assert projected.snapshot().id == snapshot
    projected.ingest(POOL, ["fake-a"])
    projected.project()
    placed = {(done.level, done.model): done.new_points for done in projected.map()}
    assert placed["structure", "fake-a"] == placed["structure", "consensus"] == 10
    assert placed["structure", "fake-b"] == 0
    after = maps(projected)
    for view, frame in before.items():
        kept = after[view][after[view]["structure_id"].isin(first(50))].reset_index(drop=True)
        pd.testing.assert_frame_equal(kept, frame)
    # The consensus about the ten is placed again when the other model has seen them too.
    projected.ingest(POOL, ["fake-b"])
    projected.project()
    placed = {(done.level, done.model): done.new_points for done in projected.map()}
    assert placed["structure", "fake-a"] == 0
    assert placed["structure", "fake-b"] == placed["structure", "consensus"] == 10
    assert projected.doctor()["problems"] == []
    counts = projected.sql("SELECT DISTINCT count(*) AS n FROM structure_map GROUP BY model")
    assert counts["n"].tolist() == [60]


def test_the_order_of_ingest_changes_nothing(projected, tmp_path):
    other = Store.open(tmp_path / "other.store")
    for half in (dict(list(first(50).items())[30:]), first(30)):
        other.ingest(half, MODELS)
    other.select_anchors(k=20, model="fake-a")
    other.project()
    projected.map()
    other.map()
    same(maps(projected), maps(other))


def test_it_goes_with_its_structure_and_can_be_renewed(projected, flat):
    projected.map()
    free = projected.sql(
        "SELECT structure_id FROM structure ANTI JOIN anchor USING (structure_id) ORDER BY 1"
    )["structure_id"]
    before = maps(projected)
    projected.delete([free[0]])
    for view, frame in maps(projected).items():
        left = before[view][before[view]["structure_id"] != free[0]].reset_index(drop=True)
        pd.testing.assert_frame_equal(frame, left)
    assert projected.doctor()["problems"] == []
    assert {done.new_points for done in projected.map()} == {0}
    assert min(done.new_points for done in projected.map(renew=True)) == 49


def test_a_map_needs_a_space(store):
    store.ingest(first(5), ["fake-a"])
    with pytest.raises(AnchorsNotFound):
        store.map()


def test_one_model_alone_has_a_map_too(store):
    store.ingest(first(20), ["fake-a"])
    store.select_anchors(k=5, model="fake-a")
    store.project()
    assert [done.model for done in store.map() if done.level == "structure"] == [
        "fake-a",
        "consensus",
    ]


def test_doctor_sees_a_map_that_lacks_atoms(projected, flat):
    projected.map()
    with projected._writing("lose atoms") as writer, writer.writing():
        writer.delete_rows("atom_map", "structure_id = 'c7' AND site_index = 0")
    assert any("lack atoms there" in problem for problem in projected.doctor()["problems"])


@pytest.mark.faults
def test_dying_at_any_point_of_mapping(tmp_path, monkeypatch, flat):
    know_fakes(in_process=True, patch=monkeypatch.setattr)
    monkeypatch.setattr(mapping, "CHUNK", 30)
    whole = Store.open(tmp_path / "whole.store")
    whole.ingest(first(50), MODELS)
    whole.select_anchors(k=20, model="fake-a")
    whole.project()
    deadly = Deadly(monkeypatch.setattr)
    stores = [Store.open(copytree(whole.path, tmp_path / f"{i}.store")) for i in range(4)]
    assert not deadly.kills(whole.map)
    expected, steps = maps(whole), [*deadly.steps]
    for store, point in zip(stores, range(2, len(steps), len(steps) // 4), strict=False):
        what, count = steps[point], steps[: point + 1].count(steps[point])
        assert deadly.kills(store.map, what, count), what
        assert store.doctor()["problems"] == []
        store.map()
        same(maps(store), expected)
