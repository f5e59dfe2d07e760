"""The conformance kit on every model, each in its family's own environment, made if need be.

Weights that do not come with a package are looked for in the shared data; a model whose weights are
not there is checked with random ones, once for each network that several cards share.
"""

from dataclasses import replace

import pytest

from platonic_store.runtimes import cards, checkpoints
from platonic_store.runtimes.conformance import check
from platonic_store.runtimes.preparation import RunnableModel, prepare

from ingest.checks.features import CHECKS  # isort: skip


def at_hand(name: str, shared_weights) -> RunnableModel:
    """The model with its weights, or with random ones where those cannot be had here."""
    card = cards.resolve(name)
    if not checkpoints.requires_download(card):
        return prepare([name])[0]
    if place := shared_weights.get(name) or checkpoints.find_local(card):
        return prepare([name], checkpoint=place)[0]
    if card.architecture is None:
        pytest.skip(f"neither the weights nor the architecture of {name} are at hand")
    if (first := first_of_network(card)) != name:
        pytest.skip(f"with random weights {name} is the same network as {first}")
    return prepare([f"control:random:{name}"])[0]


def first_of_network(card: cards.Card) -> str:
    """The first card, of those whose weights are downloaded, that has the same network."""
    return next(
        other.name
        for other in cards.load_cards().values()
        if checkpoints.requires_download(other)
        and (other.family, other.architecture) == (card.family, card.architecture)
        and (other.cutoff, other.elements) == (card.cutoff, card.elements)
    )


@pytest.mark.models
@pytest.mark.parametrize("name", cards.load_cards())
def test_conformance(name, shared_weights, own_trust_store):
    results = list(check(at_hand(name, shared_weights), device="cpu"))
    assert {result.check for result in results} >= {check.__name__ for check in CHECKS}
    assert [result for result in results if not result.passed] == []


def test_the_kit_finds_what_is_wrong():
    """A card that does not say what the model is."""
    ready = prepare(["control:composition"])[0]
    wrong = replace(ready.card, cutoff=5.0, elements=(1, 2))
    failed = {result.check for result in check(ready._replace(card=wrong)) if not result.passed}
    assert "matches_card" in failed
