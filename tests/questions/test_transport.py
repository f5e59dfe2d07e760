import numpy as np
import pytest

from platonic_store.errors import (
    AnchorsNotFound,
    InvalidQuery,
    ModelNotFound,
    StructureNotFound,
    worded,
)
from platonic_store.store import Store

MODELS = ("sevennet-0", "chgnet-0.3.0")


def test_a_model_is_not_moved_to_itself(prototypes):
    found = prototypes.transport("sevennet-0", "sevennet-0", atoms=200)
    np.testing.assert_allclose(found["cost"], 0, atol=1e-6)
    assert found["own_element"][0] == pytest.approx(1)


def test_two_models_find_each_others_atoms(prototypes):
    found = prototypes.transport(*MODELS, atoms=300)
    assert found.columns[:5].tolist() == ["a", "b", "space", "element", "atoms"]
    assert found["element"].is_unique
    together = found.iloc[0]
    assert together["element"] == "all"
    assert together["atoms"] == 300
    assert together["own_atom"] > 10 * together["own_atom_null"]
    assert together["own_element"] > 5 * together["own_element_null"]
    assert together["own_group"] >= together["own_element"]
    assert (found["cost"] <= found["cost_paired"] + 1e-9).all()
    assert (found["error"] < 1e-6).all()
    by_element = found["difference"][1:].dropna()
    assert by_element.is_monotonic_decreasing


def test_the_choice_of_atoms_is_by_content(prototypes, own_prototypes):
    one = prototypes.transport(*MODELS, atoms=100, seed=3)
    again = own_prototypes.transport(*MODELS, atoms=100, seed=3)
    other = prototypes.transport(*MODELS, atoms=100, seed=4)
    np.testing.assert_array_equal(one["cost"], again["cost"])
    assert one["cost"][0] != other["cost"][0]


def test_sql_answers_like_python(prototypes):
    by_python = prototypes.transport(*MODELS, space="cosine", atoms=50)
    by_sql = prototypes.sql(
        f"FROM transport('{MODELS[0]}', '{MODELS[1]}', space := 'cosine', atoms := 50)"
    )
    assert by_sql.columns.tolist() == by_python.columns.tolist()
    np.testing.assert_allclose(by_sql["cost"], by_python["cost"])


def test_structures_by_transport(prototypes):
    found = prototypes.similar("Spinel", k=8, distance="transport")
    assert found["distance"].is_monotonic_increasing
    assert "Spinel" not in set(found["structure_id"])
    for id_, distance in zip(found["structure_id"][:2], found["distance"], strict=False):
        there = prototypes.transport_distance("Spinel", id_)
        assert there == pytest.approx(distance, abs=1e-9)
        assert prototypes.transport_distance(id_, "Spinel") == pytest.approx(distance, abs=1e-9)
    every = prototypes.sql(
        "SELECT transport_distance('Spinel', structure_id) AS distance FROM structure "
        "WHERE structure_id != 'Spinel' ORDER BY distance"
    )
    np.testing.assert_allclose(found["distance"], every["distance"][:8], atol=1e-9)


def test_structures_by_transport_in_sql_with_a_condition(prototypes):
    sql = (
        "SELECT structure_id, distance, transport_distance('Spinel', structure_id) AS again FROM "
        "similar_structures('Spinel', k := 5, \"where\" := 'nelements = 2', "
        "distance := 'transport')"
    )
    by_sql = prototypes.sql(sql)
    by_python = prototypes.similar("Spinel", k=5, where="nelements = 2", distance="transport")
    assert by_sql["structure_id"].tolist() == by_python["structure_id"].tolist()
    np.testing.assert_allclose(by_sql["again"], by_sql["distance"], atol=1e-9)


def test_across_models_most_structures_find_themselves(prototypes):
    ids = ["Spinel", "Halite", "Millerite", "Calaverite"]
    found = [
        id_
        in prototypes.similar(id_, across=MODELS[1], k=5, distance="transport")[
            "structure_id"
        ].values
        for id_ in ids
    ]
    assert np.mean(found) > 0.7


def test_a_large_table_is_answered_from_a_shortlist(prototypes, monkeypatch):
    exact = prototypes.similar("Spinel", k=5, distance="transport")
    monkeypatch.setattr("platonic_store.storage.vectors.CACHE_BYTES", 100_000)
    listed = prototypes.similar("Spinel", k=5, where="nsites > 0", distance="transport")
    assert set(listed["structure_id"]) == set(exact["structure_id"])


def test_a_supercell_is_the_same_set(prototypes, tmp_path):
    from ase.build import bulk

    store = Store.open(tmp_path / "cells.store")
    cells = [bulk("NaCl", "rocksalt", a=5.64), bulk("NaCl", "rocksalt", a=5.64, cubic=True)]
    cells += [cells[0] * (2, 2, 2), bulk("KCl", "rocksalt", a=6.29)]
    store.ingest(cells, ["chgnet-0.3.0"])
    ids = store.sql("SELECT structure_id FROM structure ORDER BY nsites, formula DESC")[
        "structure_id"
    ]
    potassium = store.sql("SELECT structure_id FROM structure WHERE formula = 'KCl'")[
        "structure_id"
    ][0]
    salts = [id_ for id_ in ids if id_ != potassium]
    for other in salts[1:]:
        assert store.transport_distance(salts[0], other) == pytest.approx(0, abs=1e-5)
    assert store.transport_distance(salts[0], potassium) > 0.01


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda s: s.transport("sevennet-0", "orb"), ModelNotFound, "orb"),
        (lambda s: s.transport(*MODELS, space="centred"), AnchorsNotFound, "project"),
        (lambda s: s.transport(*MODELS, atoms=1), InvalidQuery, "at least 2"),
        (lambda s: s.transport_distance("Spinel", "Spinell"), StructureNotFound, "Spinel"),
        (lambda s: s.similar("Spinel", distance="l2"), InvalidQuery, "cosine, transport"),
        (lambda s: s.similar("Spinel", site=0, distance="transport"), InvalidQuery, "site"),
        (lambda s: s.similar(np.ones(128), distance="transport"), InvalidQuery, "name a structure"),
    ],
)
def test_mistakes_are_one_line(prototypes, call, error, says):
    with pytest.raises(error) as raised:
        call(prototypes)
    assert says in f"{raised.value}: {worded(raised.value.hint)}"
    assert "\n" not in str(raised.value)
