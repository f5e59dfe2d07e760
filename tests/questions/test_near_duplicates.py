"""Near duplicates of a real store, and of copies whose answer is known."""

import numpy as np
import pytest

from platonic_store.errors import InvalidQuery
from platonic_store.geometry.clusters import close_pairs, connected
from platonic_store.geometry.neighbours import distances
from platonic_store.questions.shared import pooled as module
from platonic_store.questions.shared.duplicates import POOLING
from platonic_store.questions.shared.pooled import pooled
from platonic_store.storage import lookup


def test_pyrite_is_there_twice(prototypes):
    found = prototypes.near_duplicates()
    assert set(found.loc[0, ["structure_id", "other"]]) == {"Pyrite", "pyrite"}
    assert (np.diff(found["distance"]) >= 0).all()
    assert found["distance"].max() <= 0.005
    known = prototypes.sql("SELECT structure_id, formula FROM structure").set_index("structure_id")
    for end in ("structure_id", "other", "group"):
        assert (known.loc[found[end], "formula"].to_numpy() == found["formula"]).all()
    fewer = prototypes.near_duplicates(within=found["distance"].median())
    assert len(fewer) == len(found[found["distance"] <= found["distance"].median()])


def test_the_check_is_that_of_pymatgen(prototypes):
    found, checked = prototypes.near_duplicates(), prototypes.near_duplicates(check=True)
    assert 0 < len(checked) < len(found)
    pairs = set(zip(found["structure_id"], found["other"], strict=True))
    assert set(zip(checked["structure_id"], checked["other"], strict=True)) < pairs
    zincblende = found["structure_id"].eq("Wurtzite") & found["other"].eq("Zincblende")
    assert zincblende.any()  # polytypes: one pair to the model, two crystals to pymatgen
    assert not (checked["structure_id"].eq("Wurtzite") & checked["other"].eq("Zincblende")).any()


def test_a_condition_leaves_both_ends(prototypes):
    where = "nsites <= 6"
    small = set(prototypes.sql(f"SELECT structure_id FROM structure WHERE {where}")["structure_id"])
    found = prototypes.near_duplicates(where=where, within=0.02)
    assert len(found)
    assert set(found["structure_id"]) | set(found["other"]) <= small
    with pytest.raises(InvalidQuery):
        prototypes.near_duplicates(within=-1)


def test_a_table_that_does_not_fit_in_memory(prototypes, monkeypatch):
    with prototypes.snapshot() as snapshot:
        table = lookup.vector_table(snapshot, lookup.model_layer(snapshot, None), "atom")
        expected = pooled(snapshot, table, POOLING)
        monkeypatch.setattr(module, "fits_cache", lambda nbytes: False)
        streamed = pooled(snapshot, table, POOLING)
    assert (streamed.ids == expected.ids).all()
    np.testing.assert_allclose(streamed.vectors, expected.vectors, atol=1e-5)
    assert streamed.spread == pytest.approx(expected.spread)


def test_pairs_within_are_all_pairs():
    dice = np.random.default_rng(0)
    rows, kinds = dice.normal(size=(60, 3)), dice.integers(0, 4, 60)
    one, other, apart = close_pairs(rows[:20], kinds[:20], rows, kinds, 0.3)
    near = (distances(rows[:20], rows) <= 0.3) & (kinds[:20, None] == kinds)
    np.testing.assert_array_equal(np.column_stack([one, other]), np.argwhere(near))
    assert (apart <= 0.3).all()
    assert connected(5, np.array([1, 4]), np.array([3, 3])).tolist() == [0, 1, 2, 1, 1]
