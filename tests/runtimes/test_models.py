"""`platonic_store.models`: what the command `models` does, in Python."""

import subprocess
import sys

import pytest

from platonic_store import errors, models
from platonic_store.runtimes import cards, check_records, trust_store


def test_the_import_is_light():
    script = "import sys, platonic_store.models; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", script], text=True).split()
    assert not {"pandas", "pyarrow", "duckdb", "lance", "ase"} & set(loaded)


def test_every_model_is_a_row(family):
    family(kind="trained", downloads=["http://127.0.0.1:9/tiny.pt"])
    rows = models.table().set_index("name")
    assert list(rows.index) == [card.name for card in models.cards()]
    assert rows.loc["tiny-1", "layers"] == "0–1 × 3"
    assert rows.loc["tiny-1", "weights"] == "to download, then to trust"
    assert rows.loc["tiny-1", "environment"] == "this Python"
    assert rows.loc["control:composition", ["kind", "weights"]].tolist() == [
        "control",
        "none needed",
    ]


def test_a_card_is_a_dict(family):
    family(elements=[1, 8], license={"weights": "Club Licence", "restriction": "Members only."})
    card = models.show("TINY-1")
    assert list(card)[:2] == ["name", "license"], "a licence that restricts use comes first"
    assert card["elements"] == ["H", "O"]
    assert card["layers"] == {0: 3, 1: 3}
    assert (card["kind"], card["head"], card["weights_here"]) == ("trained", False, "none needed")
    assert "doi" not in card
    assert models.show("control:random:sevennet-0:4")["weights_here"] == "random, seed 4"


def test_a_licence_is_accepted_once(family):
    family(license={"weights": "Club Licence", "restriction": "Members only."})
    assert models.accept("Tiny-1").license["restriction"] == "Members only."
    assert models.accept("sevennet-0").license == {"code": "MIT", "weights": "MIT"}
    assert trust_store.read()["accepted_licences"] == ["tiny-1"]
    with pytest.raises(errors.ModelNotFound):
        models.accept("tiny-2")


def test_the_conformance_kit_as_a_frame(home):
    results = models.check("control:composition", device="cpu")
    assert list(results) == ["check", "passed", "measured", "tolerance", "remark"]
    assert results["passed"].all()
    assert results["check"][0] == "matches_card"


def test_the_kit_is_remembered_and_run_on_several(home, family):
    family(downloads=["http://127.0.0.1:9/tiny.pt"])
    table = models.check_all(["control:composition", "tiny-1"], device="cpu").set_index("name")
    assert table.loc["control:composition", ["weights", "failed"]].tolist() == ["published", ""]
    assert table.loc["control:composition", "atoms_per_second"] > 0
    assert table.loc["control:composition", "rotation"] == 0
    assert "no weights to replace" not in table.loc["tiny-1", "failed"]
    passed = models.show("control:composition")["kit_passed"]
    assert passed["when"].startswith("20")
    assert "python 3" in passed["versions"]
    assert passed["deviations"]["rotation"] == 0
    assert "kit_passed" not in models.show("chgnet-0.3.0")
    again = models.checked(["control:composition", "chgnet-0.3.0"]).set_index("name")
    assert again.loc["control:composition", "when"] == passed["when"]
    assert again["checks"].isna().tolist() == [False, True]


def test_a_run_on_all_goes_on_where_it_stopped(family, capfd):
    family(loader="never")
    table = models.check_all(["control:composition", "tiny-1"], device="cpu").set_index("name")
    assert table.loc["tiny-1", "failed"] == (
        "tiny-1 cannot be checked: killed, as where memory is short"
    )
    assert table.loc["control:composition", "failed"] == ""
    assert "1 of 2: control:composition: 17 checks passed" in capfd.readouterr().err
    family(loader="well", cutoff=0.0)
    order = ["control:composition", "tiny-1", "control:twin:untrained"]
    assert [card.name for card in sorted(map(cards.resolve, order), key=check_records.age)] == [
        "control:twin:untrained", "control:composition", "tiny-1"
    ]  # fmt: skip
    family({"requires": ["numpy>=1"]}, loader="well", cutoff=0.0)
    models.check_all(["control:composition", "tiny-1"], device="cpu")
    assert "1 of 2: tiny-1: fails " in capfd.readouterr().err, "another environment"


def test_a_checkpoint_that_is_not_loaded_whole_fails(family):
    """Random numbers are finite, invariant and the same twice: only loading again tells."""
    family(cutoff=0.0)
    assert models.check("tiny-1").set_index("check").loc["loaded_whole", "passed"]
    family(loader="in part")
    results = models.check("tiny-1").set_index("check")
    assert not results.loc["loaded_whole", "passed"]
    assert "tensors that were not loaded" in results.loc["loaded_whole", "remark"]
    assert results.loc[["deterministic", "rotation", "supercell"], "passed"].all()
    assert models.show("tiny-1")["kit_failed"]["failed"]


def test_environments_are_removed(home):
    folder = home.cache / "environments" / "tiny-0123456789ab"
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"0" * 1000)
    assert models.clean(["tiny"]) == [(folder.name, 1e-6)]
    assert not folder.exists()
    with pytest.raises(errors.EnvironmentNotReady, match=r"no environment of tiny \(here: none\)"):
        models.clean(["tiny"])
