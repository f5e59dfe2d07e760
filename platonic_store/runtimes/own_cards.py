"""A card for a checkpoint of the user's own: of its parent's card, and of what its file says."""

import tempfile
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from platonic_store import errors
from platonic_store.runtimes import checkpoints, trust_store
from platonic_store.runtimes.cards import Ancestor, Card, Layer, load_cards, resolve
from platonic_store.runtimes.families import own_cards_folder, validate
from platonic_store.runtimes.interpreters import interpreter
from platonic_store.runtimes.process import StartupError, Worker, WorkerDied

# "like": trained from nothing, by the same package; no kin.
Relation = Literal["fine-tuned from", "trained from", "distilled from", "like"]
# What a parent's card says of its weights, and not of a child's.
_OF_ITS_WEIGHTS = (
    "aliases",
    "url",
    "downloads",
    "checksums",
    "doi",
    "folder",
    "seed",
    "checkpoint",
)


def write(
    file: Path,
    name: str,
    parent: str,
    relation: Relation = "fine-tuned from",
    training_sets: Iterable[str] = (),
    modality: str | None = None,
    python: str | Path | None = None,
) -> tuple[Card, Path]:
    """Write the card of a checkpoint that the family of `parent` can load; the file is loaded.

    Layers, cutoff and elements are the file's; defaults and symmetries the parent's, and the
    modality (a head or task) where none is given.
    Returns the card and where it is. Raises ModelNotFound, InvalidQuery, WeightsNotFound,
    InvalidCard, WorkerFailed.
    """
    base = resolve(parent)
    if not file.exists():
        raise errors.InvalidQuery(f"there is no {file}", "check the path")
    if name.lower() in load_cards():
        raise errors.InvalidQuery(f"there is a model {name} already", "choose another name")
    its_sets = () if relation == "like" else base.training_sets
    card = replace(
        base,
        name=name,
        training_sets=tuple(dict.fromkeys([*its_sets, *training_sets])),
        lineage=() if relation == "like" else (Ancestor(relation, base.name),),
        default_layer_reason=f"As {base.name}; not measured for these weights.",
        modality=modality or base.modality,
        own_checkpoint=True,
        checkpoint=str(file.absolute()),
        checksums={},
    )
    card = replace(card, checkpoint_sha256=checkpoints.digest(file.absolute(), base))
    if file.is_dir():
        names = sorted(checkpoints.file_names(base))
        files = {each: checkpoints.sha256(file / each) for each in names}
        card = replace(card, checksums={"published": files})
    card = _as_loaded(card, interpreter(base, python))
    path = own_cards_folder() / f"{name.replace(':', '-')}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_text(card))
    try:
        validate(path, "card")
    except errors.InvalidCard:
        path.unlink()
        raise
    trust_store.remember_checkpoint(name, file)
    load_cards.cache_clear()
    return resolve(name), path


def _as_loaded(card: Card, python: Path) -> Card:
    """The card with the layers, cutoff and elements that the checkpoint has."""
    request: dict[str, Any] = {
        "card": card.as_dict(),
        "layers": [],
        "outputs": [],
        "device": "cpu",
        "batch_atoms": None,
        "batch_atoms_before": {},
        "graph_processes": 0,
    }
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(python, request, folder)
        try:
            found = worker.handshake()
        except (StartupError, WorkerDied) as error:
            raise errors.WorkerFailed(
                f"{card.checkpoint} is no checkpoint that {card.family} can load: {error}"
            ) from None
        finally:
            worker.close()
    layers = tuple(Layer(**layer) for layer in found["layers"])
    there = [layer.index for layer in layers]
    default = card.default_layer if card.default_layer in there else there[0]
    return replace(
        card,
        layers=layers,
        cutoff=found["cutoff"],
        elements=tuple(found["elements"]),
        default_layer=default,
        default_layers=tuple(each for each in card.default_layers if each in there),
        architecture=card.architecture if layers == card.layers else None,
    )


def _text(card: Card) -> str:
    fields = _fields(card)
    # Lists in one line each, as in the cards that are written by hand.
    text: str = yaml.safe_dump(
        fields, sort_keys=False, allow_unicode=True, width=96, default_flow_style=None
    )
    return text


def _fields(card: Card) -> dict[str, Any]:
    """The YAML of a card: its fields that say something."""
    own = {"checksums"} if card.checksums else set()
    left_out = {*_OF_ITS_WEIGHTS} - own
    fields = {key: value for key, value in asdict(card).items() if key not in left_out}
    named = ("invariant", "mirror_invariant", "supercell_invariant")
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in fields.items()
        if value not in (None, (), {}) and not (key in named and value is True)
    }
