"""The committee of real and of fake models, against numpy and where the answer is known."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from platonic_store.errors import InvalidQuery, ModelNotFound
from platonic_store.store import Store

sys.path.append(str(Path(__file__).parents[1] / "store"))
import store_fakes

XYZ = ["fx", "fy", "fz"]
BOTH = "energy,forces"


def test_spread_is_that_of_numpy(prototypes):
    atoms = prototypes.sql("FROM atom_prediction ORDER BY structure_id, site_index, model")
    models = ["chgnet-0.3.0", "sevennet-0"]
    a, b = (atoms[atoms.model == one][XYZ].to_numpy(dtype=float) for one in models)
    keys = atoms[atoms.model == models[0]][["structure_id", "site_index"]].reset_index(drop=True)
    keys["spread"] = np.linalg.norm(a - b, axis=1) / np.sqrt(2)
    keys["force"] = np.linalg.norm(a + b, axis=1) / 2
    found = prototypes.committee(level="atom", k=len(keys))
    both = found.merge(keys, on=["structure_id", "site_index"], suffixes=("", "_numpy"))
    assert len(both) == len(keys)
    assert np.allclose(both["spread"], both["spread_numpy"], atol=1e-6)
    assert np.allclose(both["force"], both["force_numpy"], atol=1e-6)
    assert both["apart"].isna().all(), "of two models neither stands apart"
    assert both["error"].isna().all()

    whole = prototypes.committee(k=1000).set_index("structure_id")
    means = keys.groupby("structure_id")[["spread", "force"]].mean()
    assert np.allclose(whole.loc[means.index, ["spread", "force"]], means, atol=1e-6)
    assert whole["rank"].tolist() == list(range(1, len(means) + 1))
    view = prototypes.sql("FROM committee ORDER BY spread DESC").set_index("structure_id")
    columns = ["spread", "force", "p", "site_index", "site_spread"]
    pd.testing.assert_frame_equal(view[columns], whole.loc[view.index, columns], check_dtype=False)


def test_the_forces_are_those_of_the_calculator(prototypes):
    """And those of equivalent sites have one size."""
    from chgnet.model.dynamics import CHGNetCalculator
    from prototypes import small_crystals

    crystals = small_crystals(prototypes)
    said = prototypes.sql("FROM atom_prediction WHERE model = 'chgnet-0.3.0'")
    energies = prototypes.sql("FROM prediction WHERE model = 'chgnet-0.3.0'")
    energies = energies.set_index("structure_id")["energy"]
    calculator = CHGNetCalculator(use_device="cpu")
    for id_, rows in list(said.sort_values("site_index").groupby("structure_id"))[:3]:
        atoms = crystals[id_]
        atoms.calc = calculator
        assert np.allclose(rows[XYZ], atoms.get_forces(), atol=1e-4)
        assert energies[id_] == pytest.approx(atoms.get_potential_energy(), abs=1e-3)
    sites = prototypes.sql(
        "SELECT max(force) - min(force) AS width FROM atom_prediction "
        "JOIN site USING (structure_id, site_index) GROUP BY model, structure_id, orbit"
    )
    assert sites["width"].max() < 1e-3


@pytest.fixture
def fakes(monkeypatch):
    store_fakes.know_fakes(in_process=True, patch=monkeypatch.setattr)


@pytest.fixture
def labelled(fakes, tmp_path) -> Store:
    """Crystals with labels of forces, which fake-a misses by little and fake-b by a third."""
    from ase.calculators.singlepoint import SinglePointCalculator

    pool = store_fakes.crystals(60)
    for atoms in pool.values():
        true = store_fakes.vectors_of(atoms, "fake-a", 0)[:, :3] * 1.01
        atoms.calc = SinglePointCalculator(atoms, forces=true, energy=1.0)
    store = Store.open(tmp_path / "labelled.store")
    store.ingest(pool, ["fake-a", "fake-b"], outputs=BOTH)
    return store


def test_labels_give_errors_and_bounds(labelled):
    whole = labelled.committee(k=100, model="fake-a", level="atom")
    assert np.allclose(whole["error"], 0.01 * whole["force"], atol=1e-5)
    assert (whole["error_bound"] >= whole["expected_error"]).all()
    assert (whole["error"] <= whole["error_bound"]).mean() > 0.85
    elsewhere = labelled.committee(k=3, labels="no_such_property")
    assert elsewhere["error_bound"].isna().all()
    chosen = labelled.committee(k=100, where="nsites > 3")
    assert 0 < len(chosen) < 60
    assert chosen["nsites"].min() > 3


def test_kin_do_not_count_as_agreement(labelled):
    """The fakes are of one family: without a training set they are not kin."""
    assert list(labelled.committee(k=1)["models"][0]) == ["fake-a", "fake-b"]
    with labelled._writing("kin") as writer, writer.writing() as connection:
        connection.exec_driver_sql(
            """UPDATE models SET card = json_merge_patch(card, '{"training_sets": ["X", "Y"]}')"""
        )
    with pytest.raises(InvalidQuery, match="different lineage"):
        labelled.committee()
    with labelled._writing("lineage") as writer, writer.writing() as connection:
        for name, parent in (("fake-a", "elsewhere"), ("fake-b", "fake-a")):
            of = {"relation": "fine-tuned from", "model": parent}
            card = json.dumps({"training_sets": [name], "lineage": [of]})
            connection.exec_driver_sql(
                f"UPDATE models SET card = json_merge_patch(card, '{card}') WHERE name = '{name}'"
            )
    kin = labelled.sql("FROM kin ORDER BY model")
    assert kin.to_numpy().tolist() == [["fake-a", "fake-b"], ["fake-b", "fake-a"]]
    with pytest.raises(InvalidQuery, match="different lineage"):
        labelled.committee()
    asked = labelled.committee(k=1, models=["fake-b", "fake-a"])
    assert list(asked["models"][0]) == ["fake-b", "fake-a"]


def test_what_is_not_there_is_named(fakes, tmp_path):
    store = Store.open(tmp_path / "none.store")
    store.ingest(store_fakes.crystals(3), ["fake-a", "fake-b"])
    with pytest.raises(InvalidQuery, match="two models"):
        store.committee()
    with pytest.raises(ModelNotFound, match="no forces by fake-a") as error:
        store.committee(models=["fake-a", "fake-b"])
    assert "outputs='energy,forces'" in str(error.value.__notes__)
    with pytest.raises(InvalidQuery, match="coverage"):
        store.committee(coverage=1.5)
