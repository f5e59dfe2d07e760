"""Where a model's weights are, and whether they may be loaded: a checkpoint is code (pickle)."""

import hashlib
import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlparse

from platonic_store import errors, progress
from platonic_store.runtimes import trust_store, user_dirs
from platonic_store.runtimes.cards import Card


def needed(card: Card) -> bool:
    """Whether the model needs a file that its package does not bring."""
    is_drawn = card.seed is not None and card.architecture is not None
    return bool(card.downloads) and not is_drawn


def located(card: Card, given: Path | None = None, trusted: Collection[str] = ()) -> Card:
    """The card with its `checkpoint` on this machine, downloaded if need be, and its hash checked.

    given: the user's own file or folder. trusted: SHA-256 sums to allow beside the card's.
    Raises WeightsNotFound, CheckpointMismatch.
    """
    if given is None and not needed(card):
        return card
    path = _in_folder(given.absolute(), card) if given else (at_hand(card) or _downloaded(card))
    if not path.exists():
        raise errors.WeightsNotFound(f"there is no {path}: name {card.name}'s weights again")
    found = digest(path, card)
    if found != card.checkpoint_sha256 and found not in {*trusted, *trust_store.read()["trusted"]}:
        raise errors.CheckpointMismatch(
            f"{path} has the SHA-256 {found}, "
            + (
                f"{card.name}'s card names {card.checkpoint_sha256}"
                if card.checkpoint_sha256
                else f"and {card.name}'s card names none"
            )
            + f": a checkpoint can run code, so say `--trust {found}` if you know where it is from"
        )
    return replace(card, checkpoint=str(path), checkpoint_sha256=found)


def _in_folder(path: Path, card: Card) -> Path:
    """The file itself, where a folder is given for a checkpoint of one file."""
    names = _file_names(card)
    return path / names[0] if path.is_dir() and len(names) == 1 else path


def at_hand(card: Card) -> Path | None:
    """Where the weights lie on this machine already, if they do."""
    remembered = trust_store.read()["checkpoints"].get(card.name)
    if remembered and Path(remembered).exists():
        return _in_folder(Path(remembered), card)
    fetched = all((_folder(card) / name).exists() for name in _file_names(card))
    return _kept(card) if card.downloads and fetched else None


def digest(path: Path, card: Card) -> str:
    """The SHA-256 of a checkpoint, as a card names it.

    Of a folder: that of the lines `SHA-256  name` of the card's downloads, sorted by name.
    """
    try:
        if not path.is_dir():
            return _sha256(path)
        lines = [f"{_sha256(path / name)}  {name}\n" for name in sorted(_file_names(card))]
    except OSError as error:
        raise errors.WeightsNotFound(
            f"cannot read {card.name}'s weights: {error.filename}: {error.strerror}"
        ) from None
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file_names(card: Card) -> list[str]:
    return [Path(urlparse(url).path).name for url in card.downloads]


def _folder(card: Card) -> Path:
    """Where downloads go: shared by all cards of the same files."""
    same = hashlib.sha256("\n".join(card.downloads).encode()).hexdigest()[:12]
    return user_dirs.cache() / "checkpoints" / f"{card.family}-{same}"


def _kept(card: Card) -> Path:
    names = _file_names(card)
    return _folder(card) / names[0] if len(names) == 1 else _folder(card)


def _downloaded(card: Card) -> Path:
    """The weights from where their authors publish them."""
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    folder = _folder(card)
    for url, name in zip(card.downloads, _file_names(card), strict=True):
        try:
            with progress.bytes_bar(f"{card.name}: {name}") as bar:
                fetch = pooch.HTTPDownloader(progressbar=bar, timeout=30)
                pooch.retrieve(url, None, name, folder, downloader=fetch)
        except (OSError, ValueError) as error:
            raise errors.WeightsNotFound(_where_to_put(card, url, error)) from error
    return _kept(card)


def _where_to_put(card: Card, url: str, error: Exception) -> str:
    names = " and ".join(_file_names(card))
    known = f"SHA-256 {card.checkpoint_sha256}" if card.checkpoint_sha256 else "SHA-256 not known"
    return (
        f"{card.name} needs {names} ({known}) from {url}, which cannot be reached from here "
        f"({type(error).__name__}): fetch it elsewhere and put it into {_folder(card)}, "
        "or name where it is with `--checkpoint`"
    )
