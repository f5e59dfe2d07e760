"""A potential that is tried by its ASE calculator, as docs/families.md prints it."""

from pathlib import Path

import numpy as np
import pytest

from platonic_store.runtimes import cards
from platonic_store.runtimes.conformance import check
from platonic_store.runtimes.preparation import prepare

from ingest import calculators, families  # isort: skip

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def tried(home, monkeypatch) -> cards.Card:
    pytest.importorskip("chgnet")
    monkeypatch.setenv("PLATONIC_STORE_FAMILIES", str(DOCS / "examples" / "tried"))
    cards.load_cards.cache_clear()
    return cards.resolve("tried-1")


def test_the_example_is_printed_as_it_is(tried):
    page = (DOCS / "families.md").read_text()
    for name in ("adapter.py", "environment.yaml", "cards/tried-1.yaml"):
        assert (Path(tried.folder) / name).read_text() in page


def test_it_conforms(tried):
    assert [one for one in check(prepare(["tried-1"])[0], device="cpu") if not one.passed] == []


def test_it_gives_what_the_familys_own_adapter_gives(tried):
    from ase.build import bulk

    salt = bulk("NaCl", "rocksalt", a=5.64)
    pbc = np.ones(3, bool)
    structure = families.Structure("salt", salt.numbers, salt.positions, salt.cell[:], pbc)
    rows = []
    for name in ("tried-1", "chgnet-0.3.0"):
        model = families.load(cards.resolve(name).as_dict(), "cpu")
        graph = model.graph(structure)
        features, outputs = model.predict([graph], [2], True)
        rows.append((features[2], outputs.energies, outputs.forces))
    for one, other in zip(*rows, strict=True):
        assert np.allclose(one, other, atol=1e-4)


def test_weights_that_nothing_tells_apart_are_refused(home):
    card = cards.resolve("control:composition").as_dict()
    with pytest.raises(ValueError, match="give CalculatorModel the weights"):
        calculators.CalculatorModel(card, None, dict, [])
    assert calculators.CalculatorModel(card, None, dict, [], {}).checkpoint_sha256
