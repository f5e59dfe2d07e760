"""Stores that are thinned: few atoms, what was lost, and the same whatever the order was."""

import numpy as np
import pytest
from store_fakes import content, crystals

from platonic_store.errors import InvalidQuery
from platonic_store.geometry.neighbours import distances
from platonic_store.jobs import thin as thinning
from platonic_store.store import Store


def of_few_elements(count: int, seed: int = 0, prefix: str = "c") -> dict:
    """Random crystals of four elements."""
    found = crystals(count, seed, prefix)
    for atoms in found.values():
        atoms.numbers = 5 + atoms.numbers % 4
    return found


POOL = of_few_elements(150)


@pytest.fixture
def thick(store, monkeypatch) -> Store:
    monkeypatch.setattr(thinning, "BLOCK", 50)
    store.ingest(POOL, ["fake-a"])
    return store


def test_what_is_lost_is_what_is_said(thick, tmp_path):
    (done,) = thick.thin(tmp_path / "thin.store", radius=0.05)
    thin = Store.open(tmp_path / "thin.store")
    assert thin.doctor(deep=True)["problems"] == []
    whole, kept = (one.embeddings("fake-a").to_pandas() for one in (thick, thin))
    whole = whole[whole["site_index"] == whole["orbit"]]
    assert (done.atoms, done.kept) == (len(whole), len(kept))
    assert done.structures == thin.sql("SELECT count(*) FROM structure").iloc[0, 0]
    lost = []
    for number, mine in whole.groupby("atomic_number"):
        here = kept[kept["atomic_number"] == number]
        apart = distances(np.stack(mine["vector"]), np.stack(here["vector"])).min(1)
        keys = set(zip(here["structure_id"], here["site_index"], strict=True))
        pairs = zip(mine["structure_id"], mine["site_index"], strict=True)
        lost += [d for d, key in zip(apart, pairs, strict=True) if key not in keys]
    assert len(lost) == done.atoms - done.kept > 0
    np.testing.assert_allclose(done.largest, max(lost), atol=1e-6)
    np.testing.assert_allclose(done.p99, np.quantile(lost, 0.99), atol=1e-6)
    assert done.largest <= 0.05 + 1e-6


def test_any_order_of_the_same_content_keeps_the_same(thick, tmp_path, monkeypatch):
    other = Store.open(tmp_path / "other.store")
    backwards = dict(reversed(POOL.items()))
    other.ingest(dict(list(backwards.items())[:40]), ["fake-a"])
    other.ingest(backwards, ["fake-a"])
    stores = []
    for store, name, cache in ((thick, "a.store", 1 << 30), (other, "b.store", 0)):
        monkeypatch.setattr("platonic_store.storage.vectors.CACHE_BYTES", cache)
        store.thin(tmp_path / name, radius=0.05)
        stores.append(Store.open(tmp_path / name))
    assert content(stores[0]) == content(stores[1])
    a, b = (one.sql("SELECT id, settings FROM reference") for one in stores)
    assert a["id"].tolist() == b["id"].tolist()


def test_a_share_is_kept_about(thick, tmp_path):
    (done,) = thick.thin(tmp_path / "thin.store", keep=0.5)
    assert 0.45 < done.share < 0.55


def test_questions_take_it_as_their_reference(thick, tmp_path):
    thick.thin(tmp_path / "thin.store", radius=0.005)
    new = Store.open(tmp_path / "new.store")
    new.ingest(of_few_elements(80, seed=1, prefix="n"), ["fake-a"])
    thin, whole = str(tmp_path / "thin.store"), str(thick.path)
    for level in ("structure", "atom"):
        few, all_ = (new.coverage(reference=one, level=level) for one in (thin, whole))
        assert (few["distance"] >= all_["distance"] - 1e-6).mean() > 0.99
        if level == "atom":
            assert few["of_coordination"].tolist() == all_["of_coordination"].tolist()
        assert few["lacks"].tolist() == all_["lacks"].tolist()
        assert few["p"].corr(all_["p"]) > 0.6
        assert abs((few["p"] <= 0.2).mean() - 0.2) < 0.15
    judged = new.typicality(reference=thin)
    assert judged["p"].between(0, 1).all()
    assert len(judged) == 80


def test_it_is_refused_where_it_would_mislead(thick, tmp_path):
    path = tmp_path / "thin.store"
    thick.thin(path, ["fake-a"], radius=0.05)
    thin = Store.open(path)
    with pytest.raises(InvalidQuery, match="thinned here"):
        thin.score()
    with pytest.raises(InvalidQuery, match="already"):
        thick.thin(path, ["fake-a"], radius=0.05)
    for wrong in ({}, {"radius": 0.1, "keep": 0.1}, {"radius": -1}, {"keep": 0.0}, {"keep": 2}):
        with pytest.raises(InvalidQuery):
            thick.thin(tmp_path / "x.store", **wrong)
    assert not (tmp_path / "x.store").exists()
