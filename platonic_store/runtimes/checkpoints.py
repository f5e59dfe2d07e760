"""Where a model's weights are, and whether they may be loaded: a checkpoint can run code (pickle).

A checkpoint is one file, or a folder of the files that the card's `downloads` name.
"""

import hashlib
import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlparse

from platonic_store import progress
from platonic_store.errors import Call, CheckpointMismatch, WeightsNotFound
from platonic_store.runtimes import trust_store, user_dirs
from platonic_store.runtimes.cards import Card, digest_of_files

logger = logging.getLogger(__name__)


def requires_download(card: Card) -> bool:
    """Whether the model needs weights that do not come with its package."""
    builds_random = card.seed is not None and card.architecture is not None
    return (bool(card.downloads) or card.own_checkpoint) and not builds_random


def resolve_checkpoint(
    card: Card, given: Path | None = None, trusted: Collection[str] = ()
) -> Card:
    """The card with `checkpoint` set to weights on this machine, whose SHA-256 was checked.

    Weights that are not here are downloaded. given: the user's own file or folder. trusted: SHA-256
    to allow beside the card's. Raises WeightsNotFound, CheckpointMismatch.
    """
    if given is None and not requires_download(card):
        return card
    path = _single_file(given.absolute(), card) if given else (find_local(card) or _download(card))
    if not path.exists():
        raise WeightsNotFound(f"{card.name}'s weights are not at {path}", _own_checkpoint(card))
    found = digest(path, card)
    allowed = {*card.known_sha256, *trusted, *trust_store.read()["trusted_sha256"]}
    if found not in allowed:
        known = " or ".join(sorted(card.known_sha256))
        mend = "get the weights from where their authors publish them"
        if card.own_checkpoint:
            mend = "make another card, if the file was changed on purpose"
        raise CheckpointMismatch(
            f"{card.name}'s card names {f'the SHA-256 {known}' if known else 'no SHA-256'}, "
            f"{path} has {found}: not loaded, as a checkpoint can run code",
            *([mend] if known else []),
            Call("models.check", card.name, checkpoint=str(path), trust=[found]),
        )
    return replace(card, checkpoint=str(path), checkpoint_sha256=found)


def find_local(card: Card) -> Path | None:
    """Where the weights are on this machine, or None."""
    remembered = trust_store.read()["checkpoint_paths"].get(card.name)
    if remembered and Path(remembered).exists():
        return _single_file(Path(remembered), card)
    is_downloaded = all((_folder(card) / name).exists() for name in _downloaded(card))
    return _single_file(_folder(card), card) if card.downloads and is_downloaded else None


def digest(path: Path, card: Card) -> str:
    """The SHA-256 of a checkpoint, as a card gives it: see `cards.digest_of_files`.

    Raises WeightsNotFound.
    """
    try:
        if not path.is_dir():
            return sha256(path)
        return digest_of_files({name: sha256(path / name) for name in file_names(card, path)})
    except OSError as error:
        raise WeightsNotFound(
            f"cannot read {card.name}'s weights: {error.filename}: {error.strerror}",
            _own_checkpoint(card),
        ) from None


def file_names(card: Card, folder: Path | None = None) -> list[str]:
    """The files of a card's checkpoint: in a folder, of the form that is there whole."""
    forms = [*map(list, card.checksums.values()), _downloaded(card)]
    for names in forms:
        if folder and names and all((folder / name).exists() for name in names):
            return names
    return next((names for names in [_downloaded(card), *forms] if names), [])


def sha256(path: Path) -> str:
    """The SHA-256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own_checkpoint(card: Card) -> Call:
    """It works whatever was run: where the weights are is remembered."""
    return Call("models.check", card.name, checkpoint="PATH")


def _single_file(path: Path, card: Card) -> Path:
    """The file itself, where the folder of a checkpoint of one file is given."""
    names = file_names(card, path)
    return path / names[0] if path.is_dir() and len(names) == 1 else path


def _downloaded(card: Card) -> list[str]:
    return [Path(urlparse(url).path).name for url in card.downloads]


def _folder(card: Card) -> Path:
    """Where downloads go: shared by all cards of the same files."""
    key = hashlib.sha256("\n".join(card.downloads).encode()).hexdigest()[:12]
    return user_dirs.cache() / "checkpoints" / f"{card.family}-{key}"


def _download(card: Card) -> Path:
    """The weights from where their authors publish them."""
    if not card.downloads:
        raise WeightsNotFound(f"{card.name}'s weights are a file of yours", _own_checkpoint(card))
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    folder = _folder(card)
    for url, name in zip(card.downloads, _downloaded(card), strict=True):
        logger.info("downloading %s of %s from %s", name, card.name, url)
        try:
            with progress.bytes_bar(f"{card.name}: {name}") as bar:
                fetch = pooch.HTTPDownloader(progressbar=bar, timeout=30)
                pooch.retrieve(url, None, name, folder, downloader=fetch)
        except (OSError, ValueError) as error:
            raise _unreachable(card, url, error) from error
    return _single_file(folder, card)


def _unreachable(card: Card, url: str, error: Exception) -> WeightsNotFound:
    names = " and ".join(_downloaded(card))
    known = f"SHA-256 {card.checkpoint_sha256}" if card.checkpoint_sha256 else "SHA-256 not known"
    return WeightsNotFound(
        f"{card.name} needs {names} ({known}), and {url} cannot be reached from here "
        f"({type(error).__name__})",
        f"download it elsewhere and put it into {_folder(card)}",
        _own_checkpoint(card),
    )
