"""The conformance kit, for every card whose environment is the current one."""

from functools import cache

import pytest

from platonic_store import errors
from platonic_store.runtimes import cards, environments

from ingest.families import Model, load  # isort: skip
from ingest.conformance import CHECKS  # isort: skip


QUICK = ("sevennet-0", "chgnet-0.3.0")
CARDS = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in cards.load_cards()
]


@cache
def model(name: str) -> Model:
    card = cards.resolve(name)
    try:
        environments.interpreter(card)
    except errors.EnvironmentNotReady as reason:
        pytest.skip(str(reason))
    return load(card.as_dict(), "cpu")


@pytest.mark.parametrize("name", CARDS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conformance(name, check, record_property):
    record_property("deviation", check(model(name)))


@pytest.mark.parametrize("name", CARDS)
def test_the_model_is_as_its_card_says(name):
    card, found = cards.resolve(name), model(name)
    assert found.checkpoint_sha256 == card.checkpoint_sha256
    assert dict(found.layers) == {layer.index: layer.dim for layer in card.layers}
    assert found.cutoff == card.cutoff
    assert found.elements == set(card.elements)
