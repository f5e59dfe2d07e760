"""What the user decided once: licences accepted, weights trusted, where weights lie.

Kept for the user, never in a store: a store that came from elsewhere must not make this machine
load a file.
"""

import json
from pathlib import Path
from typing import TypedDict

import filelock

from platonic_store import errors
from platonic_store.runtimes import user_dirs


class Decisions(TypedDict):
    """licences: model names. trusted: SHA-256 sums. checkpoints: model name → its weights' path."""

    licences: list[str]
    trusted: list[str]
    checkpoints: dict[str, str]


def read() -> Decisions:
    """All decisions so far. Raises UnreadableSource."""
    decisions: Decisions = {"licences": [], "trusted": [], "checkpoints": {}}
    try:
        decisions.update(json.loads(_path().read_text()))
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise errors.UnreadableSource(
            f"{_path()} cannot be read ({error}): mend it, or remove it and decide anew"
        ) from None
    return decisions


def accept_licence(model: str) -> None:
    """The user has read the licence of this model's weights and accepts it."""
    _add({"licences": [model], "trusted": [], "checkpoints": {}})


def trust(*sha256: str) -> None:
    """Weights with these sums may be loaded."""
    _add({"licences": [], "trusted": list(sha256), "checkpoints": {}})


def remember_checkpoint(model: str, path: Path) -> None:
    """This model's weights lie there."""
    _add({"licences": [], "trusted": [], "checkpoints": {model: str(path.absolute())}})


def _path() -> Path:
    return user_dirs.config() / "decisions.json"


def _add(new: Decisions) -> None:
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):
            old = read()
            merged: Decisions = {
                "licences": sorted({*old["licences"], *new["licences"]}),
                "trusted": sorted({*old["trusted"], *new["trusted"]}),
                "checkpoints": old["checkpoints"] | new["checkpoints"],
            }
            if merged != old:
                partial = path.with_suffix(".partial")
                partial.write_text(json.dumps(merged, indent=2))
                partial.replace(path)
    except OSError as error:
        raise errors.StoreNotWritable(
            f"cannot write {path} ({error.strerror}): name another folder in PLATONIC_STORE_CONFIG"
        ) from None
