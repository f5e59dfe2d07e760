"""From a model's name to what can run: its card with weights at hand, and an interpreter."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from platonic_store import errors
from platonic_store.runtimes import checkpoints, trust_store
from platonic_store.runtimes.cards import Card, resolve
from platonic_store.runtimes.environments import interpreter

# One for all, or each by the name of its model or family.
ByName = str | Path | Mapping[str, str | Path] | None


class RunnableModel(NamedTuple):
    """A model that can run: `card.checkpoint` is where its weights are, if its package has none."""

    card: Card
    python: Path


def prepare(
    names: Iterable[str],
    *,
    python: ByName = None,
    checkpoint: ByName = None,
    trust: Iterable[str] = (),
) -> list[RunnableModel]:
    """Find, fetch and make whatever these models need; the cheap refusals come first.

    python: an interpreter, or one for each family. checkpoint: a file or folder of weights, or one
    for each model; where it lies is remembered. trust: SHA-256 sums of weights that may be loaded,
    remembered too.

    Raises ModelNotFound, InvalidQuery, LicenceNotAccepted, WeightsNotFound, CheckpointMismatch,
    EnvironmentNotReady.
    """
    cards = [resolve(name) for name in names]
    given = _checkpoints(cards, checkpoint)
    pythons = _pythons(cards, python)
    for card in cards:
        _require_licence(card)
    trusted = set(trust)
    located = []
    for card in cards:
        path = given.get(card.name)
        located.append(checkpoints.located(card, path, trusted))
        if path is not None:
            trust_store.remember_checkpoint(card.name, path)
    trust_store.trust(*trusted & {card.checkpoint_sha256 for card in located})
    return [RunnableModel(card, interpreter(card, pythons.get(card.family))) for card in located]


def _require_licence(card: Card) -> None:
    restriction = card.license.get("restriction")
    if not restriction or card.seed is not None or card.name in trust_store.read()["licences"]:
        return
    raise errors.LicenceNotAccepted(
        f"{card.name}'s weights are under the {card.license['weights']}: {restriction} "
        f"Read on with `platonic-store models show {card.name}`, accept once with "
        f"`platonic-store models accept {card.name}`"
    )


def _checkpoints(cards: list[Card], given: ByName) -> dict[str, Path]:
    """Model name → the user's own weights."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        named = {resolve(name).name: Path(path) for name, path in given.items()}
        if strangers := sorted(set(named) - {card.name for card in cards}):
            raise errors.InvalidQuery(
                f"weights are named for {', '.join(strangers)}, which is not among the models"
            )
        return named
    lacking = [card.name for card in cards if checkpoints.needed(card)]
    if len(cards) == 1:
        lacking = [cards[0].name]
    if len(lacking) != 1:
        raise errors.InvalidQuery(
            f"whose weights is {given}? `--checkpoint MODEL={given}` says so "
            f"(weights are needed for {', '.join(lacking) or 'no model here'})"
        )
    return {lacking[0]: Path(given)}


def _pythons(cards: list[Card], given: ByName) -> dict[str, str | Path]:
    """Family → the user's own interpreter."""
    families = {card.family for card in cards}
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        return dict.fromkeys(families, given)
    if strangers := sorted(set(given) - families):
        raise errors.InvalidQuery(
            f"no model here is of the family {', '.join(strangers)} "
            f"(they are of {', '.join(sorted(families))})"
        )
    return dict(given)
