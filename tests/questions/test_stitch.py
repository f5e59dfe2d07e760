"""Stitching on the store of 288 prototypes: SevenNet-0, CHGNet 0.3.0, one space."""

import pytest
from ase.build import bulk
from typer.testing import CliRunner

from platonic_store import errors
from platonic_store.cli import app
from platonic_store.store import Store

PAIR = ("sevennet-0", "chgnet-0.3.0")


@pytest.fixture(scope="session")
def volume(prototypes):
    return prototypes.stitch(*PAIR, "volume")


def test_rows_and_what_they_rest_on(prototypes, volume):
    assert volume["way"].tolist() == ["stitched", "own", "own", "composition", "mean"]
    stitched, own, *_ = volume.to_dict("records")
    assert (stitched["readout"], stitched["fed"]) == ("chgnet-0.3.0@1+2", "sevennet-0@0+1")
    assert own["ratio"] == 1
    assert stitched["ratio"] == stitched["r2"] / own["r2"]
    assert (volume["low"] <= volume["r2"]).all()
    assert (volume["r2"] <= volume["high"]).all()
    known = prototypes.sql(
        "SELECT formula IN (SELECT formula FROM anchor) AS anchored FROM structure "
        "WHERE volume IS NOT NULL AND structure_id NOT IN (SELECT structure_id FROM quarantine)"
    )["anchored"]
    assert (volume["n_test"] == (~known).sum()).all()
    assert (volume["n_train"] > known.sum()).all()


def test_the_mean_reads_nothing(volume):
    mean = volume.set_index("way").loc["mean"]
    assert -0.1 < mean["r2"] <= 0


def test_seeds_decide_the_folds(prototypes, volume):
    assert prototypes.stitch(*PAIR, "volume").equals(volume)
    assert not prototypes.stitch(*PAIR, "volume", seed=1).equals(volume)


def test_sql_and_command_line_say_the_same(prototypes, volume):
    sql = prototypes.sql("FROM stitch('sevennet-0', 'chgnet-0.3.0', 'volume')")
    assert sql["r2"].tolist() == volume["r2"].tolist()
    arguments = [*PAIR, "volume", "--format", "json"]
    line = CliRunner().invoke(app, ["stitch", *arguments, "--store", str(prototypes.path)])
    assert '"stitched"' in line.stdout


@pytest.mark.parametrize(
    ("arguments", "error", "reason"),
    [
        ((*PAIR, "formula"), errors.InvalidQuery, "'formula' is no numeric property .*volume"),
        ((*PAIR, "hardness"), errors.InvalidQuery, "'hardness' is no numeric property .*volume"),
        (("sevennet-0@3", PAIR[1], "volume"), errors.LayerNotFound, "not 3"),
        (("control:soap", PAIR[1], "volume"), errors.ModelNotFound, "no embeddings by"),
    ],
)
def test_wrong_questions_get_one_line(prototypes, arguments, error, reason):
    with pytest.raises(error, match=reason) as raised:
        prototypes.stitch(*arguments)
    assert "\n" not in str(raised.value)


def test_a_head_wants_its_last_layer(prototypes):
    with pytest.raises(errors.LayerNotFound, match="no layer 3 of chgnet") as raised:
        prototypes.stitch_head(*PAIR)
    assert "layers='3'" in errors.worded(raised.value.hint)


def test_a_head_reads_what_another_model_sees(tmp_path):
    """Composition, fed to CHGNet's head: what it makes of its own features is its energy."""
    store = Store.open(tmp_path / "salts.store")
    salts = [f"{a}{b}" for a in ("Li", "Na", "K", "Rb", "Cs") for b in ("F", "Cl", "Br", "I")]
    crystals = {name: bulk(name, "rocksalt", a=5.0 + i / 10) for i, name in enumerate(salts)}
    store.ingest(crystals, ["chgnet-0.3.0", "control:composition"], layers="last")
    store.select_anchors("random", 10, model="chgnet-0.3.0")
    store.project()
    found = store.stitch_head("control:composition", "chgnet-0.3.0").set_index("way")
    assert found.index.tolist() == ["stitched", "decoded", "own", "element", "mean"]
    assert (found.loc["own", "r2"], found.loc["own", "mae"]) == (1, 0)
    assert found.loc["element", "mae"] < found.loc["mean", "mae"]
    assert (found["n_train"] == 10).all()
    assert 10 <= found["n_test"].iloc[0] < 20
