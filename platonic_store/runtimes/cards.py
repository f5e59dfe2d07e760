"""Model cards: what is known of each model, and the names under which it is found."""

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from platonic_store import errors, resources
from platonic_store.runtimes.families import own_cards, user_families

CONTROL = "control:"
RANDOM = f"{CONTROL}random:"
Kind = Literal["trained", "control"]
# libyaml's, where PyYAML was built with it: five times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Layer:
    """A message-passing layer (0 first) and its number of invariant scalars per atom."""

    index: int
    dim: int


@dataclass(frozen=True)
class Ancestor:
    """A model that another was "trained from", "fine-tuned from" or "distilled from"."""

    relation: str
    model: str


@dataclass(frozen=True, kw_only=True)
class Card:
    """One model. The fields are those of `ingest/schemas/card.json`; None or empty: not known.

    kind: "trained", or "control" for a baseline that is no potential. head: whether the energy
    head reads an atom's last layer and element and nothing else.
    """

    name: str
    family: str
    loader: str
    elements: tuple[int, ...]  # atomic numbers that were trained
    cutoff: float  # Å
    equivariant: bool
    layers: tuple[Layer, ...]
    default_layer: int
    default_layer_reason: str
    folder: str  # of the family
    default_layers: tuple[int, ...] = ()  # side by side in a space; see docs/recipes.md
    kind: Kind = "trained"
    head: bool = False
    conservative: bool | None = None
    invariant: bool = True
    mirror_invariant: bool = True
    supercell_invariant: bool = True
    aliases: tuple[str, ...] = ()
    training_sets: tuple[str, ...] = ()
    lineage: tuple[Ancestor, ...] = ()
    license: dict[str, str] = field(default_factory=dict, hash=False)
    modality: str | None = None
    architecture: dict[str, Any] | None = field(default=None, hash=False)
    checkpoint_sha256: str | None = None
    checksums: dict[str, dict[str, str]] = field(default_factory=dict, hash=False)
    url: str | None = None
    downloads: tuple[str, ...] = ()
    own_checkpoint: bool = False
    numbers: tuple[str, ...] = ()
    doi: str | None = None
    checkpoint: str | None = None  # path of the weights on this machine, if not in the package
    seed: int | None = None  # of random weights in place of the trained ones

    @classmethod
    def read(cls, path: Path, folder: Path | None = None) -> "Card":
        """The card in a file; by default it lies in its family's folder, in `cards`."""
        fields: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), _LOADER)
        fields["layers"] = [Layer(**layer) for layer in fields["layers"]]
        fields["lineage"] = [Ancestor(**each) for each in fields.get("lineage", [])]
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return cls(**(fields | lists), folder=str(folder or path.parents[1]))

    @property
    def known_sha256(self) -> frozenset[str]:
        """Of every checkpoint that holds these weights, as published and as converted."""
        forms = (digest_of_files(files) for files in self.checksums.values())
        return frozenset({*forms, *([self.checkpoint_sha256] if self.checkpoint_sha256 else [])})

    def as_dict(self) -> dict[str, Any]:
        """For JSON: what a worker is given, and what a run records."""
        return asdict(self)


@cache
def load_cards() -> dict[str, Card]:
    """All cards by name: those of this package, then the user's. Raises InvalidCard."""
    folders = [*sorted((resources.folder("ingest") / "families").glob("*/")), *user_families()]
    found = [(path, folder) for folder in folders for path in sorted(folder.glob("cards/*.yaml"))]
    found += own_cards({folder.name: folder for folder in folders})
    cards: dict[str, Card] = {}
    for path, folder in found:
        card = Card.read(path, folder)
        if card.name in cards:
            raise errors.InvalidCard(f"{path}: there is a model {card.name} already")
        cards[card.name] = card
    return cards


def digest_of_files(files: Mapping[str, str]) -> str:
    """The SHA-256 of a checkpoint of some files, name → SHA-256.

    Of one file its own; of several that of the lines `SHA-256  name`, sorted by name.
    """
    if len(files) == 1:
        return next(iter(files.values()))
    lines = "".join(f"{files[name]}  {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def is_same_weights(stored: str, identity: Mapping[str, Any], card: Card) -> bool:
    """Whether weights of a store are those of a worker's identity.

    They are so by their SHA-256, by what older stores call random weights, or as two forms of a
    checkpoint that the card knows.
    """
    here = identity["checkpoint_sha256"]
    return stored in (here, identity.get("former_sha256")) or {stored, here} <= card.known_sha256


def kind_of(name: str) -> Kind:
    """The kind of a model by its name: `control:` and nothing else begins a control's name."""
    return "control" if name.lower().startswith(CONTROL) else "trained"


def resolve(name: str) -> Card:
    """The card of a name or alias in upper or lower case, or of a control. Raises ModelNotFound.

    `control:random:MODEL`, or `control:random:MODEL:SEED`, is that model with random weights. A
    card with `numbers` is found with those after its name, too.
    """
    if name.lower().startswith(RANDOM):
        base, _, seed = name[len(RANDOM) :].rpartition(":")
        if not (base and seed.isdecimal()):
            base, seed = name[len(RANDOM) :], "0"
        return _random_control(resolve(base), int(seed))
    cards = load_cards()
    names = {alias.lower(): card for card in cards.values() for alias in card.aliases}
    names |= {card.name.lower(): card for card in cards.values()}
    if card := names.get(name.lower()) or _numbered(name.lower(), names):
        return card
    close = [known for known in names if name and known.startswith(name.lower())]
    close = close or difflib.get_close_matches(name.lower(), names, n=1)
    meant = dict.fromkeys(names[known].name for known in close)
    hints = [f"try {' or '.join(meant)}"] if meant else []
    raise errors.ModelNotFound(f"no model {name!r}", *hints, errors.Call("models.table"))


def _numbered(name: str, names: dict[str, Card]) -> Card | None:
    """`control:twin:forces:1:300`: the card of a name with numbers after it, if it takes some.

    They tell checkpoints of one card apart. One that the card calls seed is that of its weights.
    """
    parts = name.split(":")
    count = next((i for i, part in enumerate(parts[::-1]) if not part.isdecimal()), 0)
    card = names.get(":".join(parts[: len(parts) - count]))
    if card is None or count > len(card.numbers):
        return None
    given = dict(zip(card.numbers, map(int, parts[len(parts) - count :]), strict=False))
    suffix = "".join(f":{number}" for number in given.values())
    return replace(card, name=f"{card.name}{suffix}", aliases=(), seed=given.get("seed"))


def outputs_wanted(card: Card, spec: str = "") -> tuple[str, ...]:
    """ "energy", or "energy" and "forces", of "energy,forces"; none of "".

    Forces come with their energy: it is the same forward pass.

    Raises: InvalidQuery for another word, or of a model that has neither.
    """
    wanted = {part.strip() for part in spec.split(",") if part.strip()}
    if unknown := wanted - {"energy", "forces"}:
        raise errors.InvalidQuery(
            f"no output {', '.join(sorted(unknown))}", "use energy, or energy,forces"
        )
    if wanted and card.conservative is None:
        raise errors.InvalidQuery(f"{card.name} predicts no energies and forces")
    return tuple(name for name in ("energy", "forces") if wanted and (name in {*wanted, "energy"}))


def _random_control(card: Card, seed: int) -> Card:
    """The same architecture with random weights."""
    has_weights = card.downloads or card.checkpoint_sha256 or card.own_checkpoint
    if card.seed is not None or not has_weights:
        raise errors.ModelNotFound(f"{card.name} has no weights to replace by random ones")
    return replace(
        card,
        name=f"{RANDOM}{card.name}" + (f":{seed}" if seed else ""),
        aliases=(),
        training_sets=(),
        lineage=(),
        kind="control",
        default_layer_reason=f"As {card.name}.",
        seed=seed,
    )


def layers_wanted(card: Card, spec: str = "default") -> tuple[int, ...]:
    """Layer indices of "default", "first", "last", "all" or "0,2". Raises LayerNotFound."""
    known = sorted(layer.index for layer in card.layers)
    named = {
        "default": tuple(sorted({card.default_layer, *card.default_layers})),
        "first": (known[0],),
        "last": (known[-1],),
        "all": tuple(known),
    }
    if spec in named:
        return named[spec]
    try:
        wanted = tuple(sorted({int(part) for part in spec.split(",")}))
    except ValueError:
        wanted = ()
    if not wanted or not set(wanted) <= set(known):
        raise errors.LayerNotFound(
            f"{card.name} has no layers {spec!r}",
            f"use {', '.join(named)}, or some of {','.join(map(str, known))}",
        )
    return wanted
