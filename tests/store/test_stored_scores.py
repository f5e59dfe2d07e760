"""Scores of typicality in the store: kept once, brought up to date, gone in due time."""

from shutil import copytree

import pandas as pd
import pytest
from kill_points import Deadly
from store_fakes import crystals, know_fakes

from platonic_store.errors import InvalidQuery
from platonic_store.jobs import score as scoring
from platonic_store.store import Store

POOL = crystals(60)


def first(count: int) -> dict:
    return dict(list(POOL.items())[:count])


def scores(store: Store) -> dict[str, pd.DataFrame]:
    return {
        view: store.sql(f"SELECT * EXCLUDE (reference) FROM {view} ORDER BY ALL")
        for view in ("typicality", "atom_typicality")
    }


def same(one: dict[str, pd.DataFrame], other: dict[str, pd.DataFrame]) -> None:
    for view, frame in one.items():
        pd.testing.assert_frame_equal(frame, other[view], rtol=1e-9)


def test_only_what_is_new_is_judged_and_by_the_same_reference(store):
    store.ingest(first(50), ["fake-a"])
    (done,) = store.score()
    assert done.new_structures == 50
    before = store.sql("FROM typicality")
    assert store.score() == [done._replace(new_structures=0)]
    store.ingest(POOL, ["fake-a"])
    assert store.score() == [done._replace(new_structures=10)]
    after = store.sql("FROM typicality")
    assert set(after["structure_id"]) == set(POOL)
    kept = after[after["structure_id"].isin(before["structure_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before)
    assert store.doctor()["problems"] == []
    (renewed,) = store.score(renew=True)
    assert renewed.reference != done.reference
    assert store.sql("SELECT DISTINCT reference FROM typicality").squeeze() == renewed.reference


def test_the_order_of_ingest_changes_nothing(store, tmp_path):
    other = Store.open(tmp_path / "other.store")
    store.ingest(POOL, ["fake-a"])
    for half in (dict(list(POOL.items())[30:]), first(30)):
        other.ingest(half, ["fake-a"])
    assert store.score() == other.score()
    same(scores(store), scores(other))


def test_a_condition_says_what_is_the_reference(store):
    store.ingest(POOL, ["fake-a"])
    (every,) = store.score()
    (some,) = store.score(among="gap > 1")
    assert some.reference != every.reference
    assert some.new_structures == 60, "what is no part of the reference is judged as well"
    assert store.score()[0].reference == some.reference
    (low,) = store.sql(
        "SELECT min(gap) FROM typicality JOIN structure s ON s.structure_id = nearest_id"
    ).iloc[0]
    assert low > 1
    with pytest.raises(InvalidQuery, match="where gap > 5 to say what is typical"):
        store.score(among="gap > 5")


def test_scores_go_with_their_structure_and_its_reference(store):
    store.ingest(first(50), ["fake-a", "fake-b"])
    store.score()
    store.ingest(POOL, ["fake-a", "fake-b"])
    store.score(["fake-a"])
    store.delete(["c55"])  # judged, and no part of a reference
    found = store.sql("SELECT model, count(*) AS n FROM typicality GROUP BY ALL ORDER BY ALL")
    assert found["n"].tolist() == [59, 50]
    assert "c55" not in set(store.sql("FROM atom_typicality")["structure_id"])
    store.delete(["c0"])  # part of both references, which are no longer what they were
    assert not len(store.sql("FROM typicality"))
    assert not len(store.sql("FROM reference"))
    assert store.doctor()["problems"] == []
    assert [done.new_structures for done in store.score()] == [58, 58]
    assert "c0" not in set(store.sql("FROM typicality")["nearest_id"])


def test_doctor_sees_scores_that_lack_atoms(store):
    store.ingest(POOL, ["fake-a"])
    store.score()
    with store._writing("lose atoms") as writer, writer.writing():
        writer.delete_rows("atom_scores", "structure_id = 'c7'")
    (problem,) = store.doctor()["problems"]
    assert problem.startswith("1 of the structures scored against")


@pytest.mark.faults
def test_dying_at_any_point_of_scoring(tmp_path, monkeypatch):
    know_fakes(in_process=True, patch=monkeypatch.setattr)
    monkeypatch.setattr(scoring, "CHUNK", 30)
    whole = Store.open(tmp_path / "whole.store")
    whole.ingest(POOL, ["fake-a"])
    deadly = Deadly(monkeypatch.setattr)
    stores = [Store.open(copytree(whole.path, tmp_path / f"{i}.store")) for i in range(4)]
    assert not deadly.kills(whole.score)
    expected, steps = scores(whole), [*deadly.steps]
    for store, point in zip(stores, range(2, len(steps), len(steps) // 4), strict=False):
        what, count = steps[point], steps[: point + 1].count(steps[point])
        assert deadly.kills(store.score, what, count), what
        assert store.doctor()["problems"] == []
        store.score()
        same(scores(store), expected)
