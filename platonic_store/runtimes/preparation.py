"""From a model's name to a model that can run: its card, its weights and an interpreter."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from platonic_store.errors import Call, InvalidQuery, LicenceNotAccepted
from platonic_store.runtimes import checkpoints, trust_store
from platonic_store.runtimes.cards import Card, resolve
from platonic_store.runtimes.interpreters import interpreter

# One for all, or each by the name of its model or family.
ByName = str | Path | Mapping[str, str | Path] | None


class RunnableModel(NamedTuple):
    """A model that can run: `card.checkpoint` is where its weights are, if its package has none."""

    card: Card
    python: Path


class ModelElsewhere(NamedTuple):
    """A model to run on other machines: its weights are checked, its environment is theirs.

    python: the user's own, which is to be on all of them.
    """

    card: Card
    python: Path | None


def prepare(
    names: Iterable[str],
    *,
    python: ByName = None,
    checkpoint: ByName = None,
    trust: Iterable[str] = (),
) -> list[RunnableModel]:
    """Find, download and install whatever these models need; cheap checks come first.

    python: an interpreter, or one for each family. checkpoint: a file or folder of weights, or one
    for each model; where it is, is remembered. trust: SHA-256 of weights that may be loaded,
    remembered too.

    Raises ModelNotFound, InvalidQuery, LicenceNotAccepted, WeightsNotFound, CheckpointMismatch,
    EnvironmentNotReady.
    """
    permitted = prepare_elsewhere(names, python=python, checkpoint=checkpoint, trust=trust)
    return [RunnableModel(card, interpreter(card, python)) for card, python in permitted]


def prepare_elsewhere(
    names: Iterable[str],
    *,
    python: ByName = None,
    checkpoint: ByName = None,
    trust: Iterable[str] = (),
) -> list[ModelElsewhere]:
    """As `prepare`, but for the interpreters.

    Raises ModelNotFound, InvalidQuery, LicenceNotAccepted, WeightsNotFound, CheckpointMismatch.
    """
    cards = [resolve(name) for name in names]
    given = _checkpoints(cards, checkpoint)
    pythons = _pythons(cards, python)
    for card in cards:
        _require_licence(card)
    trusted = set(trust)
    resolved = []
    for card in cards:
        path = given.get(card.name)
        resolved.append(checkpoints.resolve_checkpoint(card, path, trusted))
        if path is not None:
            trust_store.remember_checkpoint(card.name, path)
    trust_store.trust(*trusted & {card.checkpoint_sha256 for card in resolved})
    return [ModelElsewhere(card, _path(pythons.get(card.family))) for card in resolved]


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _require_licence(card: Card) -> None:
    restriction = card.license.get("restriction")
    accepted = trust_store.read()["accepted_licences"]
    if not restriction or card.seed is not None or card.name in accepted:
        return
    raise LicenceNotAccepted(
        f"{card.name}'s weights are under the {card.license['weights']}: "
        f"{restriction.removesuffix('.')}",
        Call("models.show", card.name),
        Call("models.accept", card.name),
    )


def _checkpoints(cards: list[Card], given: ByName) -> dict[str, Path]:
    """Model name → the user's own weights."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        named = {resolve(name).name: Path(path) for name, path in given.items()}
        if others := sorted(set(named) - {card.name for card in cards}):
            raise InvalidQuery(
                f"a checkpoint is given for {', '.join(others)}, which is not among the models"
            )
        return named
    lacking = [card.name for card in cards if checkpoints.requires_download(card)]
    if len(cards) == 1:
        lacking = [cards[0].name]
    if len(lacking) != 1:
        raise InvalidQuery(
            f"ambiguous checkpoint {given}: "
            f"weights are needed for {', '.join(lacking) or 'no model here'}",
            "name the model of each checkpoint",
        )
    return {lacking[0]: Path(given)}


def _pythons(cards: list[Card], given: ByName) -> dict[str, str | Path]:
    """Family → the user's own interpreter."""
    families = {card.family for card in cards}
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        return dict.fromkeys(families, given)
    if others := sorted(set(given) - families):
        raise InvalidQuery(
            f"an interpreter is given for the family {', '.join(others)}, "
            f"but the models are of {', '.join(sorted(families))}"
        )
    return dict(given)
