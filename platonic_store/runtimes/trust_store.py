"""What the user allows: licences accepted, weights trusted, and where weights are.

Kept for the user, never in a store: a store from elsewhere must not make this machine load a file.
"""

import json
from pathlib import Path
from typing import TypedDict

import filelock

from platonic_store import errors
from platonic_store.runtimes import user_dirs


class TrustStore(TypedDict):
    """The contents of `trust_store.json`.

    accepted_licences: names of models. trusted_sha256: SHA-256 of weights. checkpoint_paths: model
    name → path of its weights.
    """

    accepted_licences: list[str]
    trusted_sha256: list[str]
    checkpoint_paths: dict[str, str]


def read() -> TrustStore:
    """All that the user has allowed so far. Raises UnreadableSource."""
    contents = _new()
    try:
        contents.update(json.loads(_path().read_text()))
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise errors.UnreadableSource(
            f"cannot read {_path()} ({error})", "correct it", "delete it and start again"
        ) from None
    return contents


def accept_licence(model: str) -> None:
    """Remembers that the user accepts the licence of this model's weights."""
    _merge(_new() | {"accepted_licences": [model]})


def trust(*sha256: str) -> None:
    """Remembers that weights with these SHA-256 may be loaded."""
    _merge(_new() | {"trusted_sha256": list(sha256)})


def remember_checkpoint(model: str, path: Path) -> None:
    """Remembers where this model's weights are."""
    _merge(_new() | {"checkpoint_paths": {model: str(path.absolute())}})


def _new() -> TrustStore:
    return {"accepted_licences": [], "trusted_sha256": [], "checkpoint_paths": {}}


def _path() -> Path:
    return user_dirs.config() / "trust_store.json"


def _merge(new: TrustStore) -> None:
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):
            old = read()
            merged: TrustStore = {
                "accepted_licences": sorted({*old["accepted_licences"], *new["accepted_licences"]}),
                "trusted_sha256": sorted({*old["trusted_sha256"], *new["trusted_sha256"]}),
                "checkpoint_paths": old["checkpoint_paths"] | new["checkpoint_paths"],
            }
            if merged != old:
                partial = path.with_suffix(".partial")
                partial.write_text(json.dumps(merged, indent=2))
                partial.replace(path)
    except OSError as error:
        raise errors.StoreNotWritable(
            f"cannot write {path} ({error.strerror})",
            "set PLATONIC_STORE_CONFIG to another folder",
        ) from None
