"""Families of the user's own, and what is wrong with some."""

import sys
from pathlib import Path

import pytest

from platonic_store import errors
from platonic_store.runtimes import cards
from platonic_store.runtimes.conformance import check
from platonic_store.runtimes.preparation import prepare
from platonic_store.store import Store


def test_a_family_in_the_configuration_folder(family):
    card = family()
    assert card.family == "tiny"
    assert "sevennet-0" in cards.load_cards()


def test_a_family_in_a_folder_named_by_the_environment(family, home, monkeypatch, tmp_path):
    family()
    (home.config / "families" / "tiny").rename(tmp_path / "tiny")
    monkeypatch.setenv("PLATONIC_STORE_FAMILIES", str(tmp_path / "tiny"))
    cards.load_cards.cache_clear()
    assert cards.resolve("tiny-1").folder == str(tmp_path / "tiny")


def test_a_family_of_an_installed_package(family, home, monkeypatch, tmp_path):
    """An entry point names a package, whose folder is the family."""
    family()
    site = tmp_path / "site"
    (site / "club_models").mkdir(parents=True)
    (site / "club_models" / "__init__.py").touch()
    (home.config / "families" / "tiny").rename(site / "club_models" / "tiny")
    info = site / "club_models-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: club-models\nVersion: 1.0\n")
    entry = info / "entry_points.txt"
    entry.write_text("[platonic_store.families]\ntiny = club_models.tiny\n")
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    cards.load_cards.cache_clear()
    assert cards.resolve("tiny-1").folder == str(site / "club_models" / "tiny")
    entry.write_text("[platonic_store.families]\ntiny = club_models.gone\n")
    cards.load_cards.cache_clear()
    with pytest.raises(errors.InvalidCard, match=r"names club_models\.gone, which is not"):
        cards.load_cards()


def test_the_example_of_the_documentation(home, monkeypatch, tmp_path):
    """It conforms, and a store can be filled with it and asked."""
    example = Path(__file__).parents[2] / "docs" / "examples" / "radial"
    monkeypatch.setenv("PLATONIC_STORE_FAMILIES", str(example))
    cards.load_cards.cache_clear()
    (ready,) = prepare(["radial"])
    results = list(check(ready))
    assert [result for result in results if not result.passed] == []
    store = Store.open(tmp_path / "radial.store")
    _, (run,) = store.ingest("builtin:aflow-prototypes", ["radial"])
    assert (run.model, run.structures, run.rejected) == ("radial-1", 287, 1)
    nearest = store.similar("diamond", model="radial", k=1)
    assert nearest.structure_id.tolist() == ["Lonsdaleite"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"cutoff": -1}, "cutoff: -1 is less than the minimum"),
        ({"colour": "red"}, "'colour' was unexpected"),
        ({"family": "other"}, "says family other, its folder is tiny"),
        ({"kind": "control"}, "kind: 'trained' was expected"),
        ({"kind": "tested"}, "kind: 'tested' is not one of"),
        ({"default_layer": 7}, "the default layer is not among its layers"),
        ({"name": "tiny 1"}, "does not match"),
        ({"name": "sevennet-0"}, "there is a model sevennet-0 already"),
        (
            {"environment": {"requires": "numpy"}},
            "requires: 'numpy' is not of type",
        ),
    ],
)
def test_a_wrong_card_is_one_line(family, fields, reason):
    with pytest.raises(errors.InvalidCard, match=reason) as error:
        family(**fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("lacking", ["adapter.py", "environment.yaml", "cards/tiny-1.yaml"])
def test_a_folder_that_is_no_family(family, home, lacking):
    family()
    (home.config / "families" / "tiny" / lacking).unlink()
    cards.load_cards.cache_clear()
    with pytest.raises(errors.InvalidCard, match="tiny"):
        cards.load_cards()
