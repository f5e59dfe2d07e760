"""The batch sizes that were found by trying, remembered for each model, depth and GPU."""

import json
from contextlib import suppress

import filelock

from platonic_store.runtimes import user_dirs


def recall(model: str, layers: tuple[int, ...]) -> dict[str, int]:
    """Device's name → atoms in a forward, as earlier runs left it."""
    return _read().get(_key(model, layers), {})


def remember(model: str, layers: tuple[int, ...], device: str, atoms: int) -> None:
    """What this run found; nothing for a CPU, where nothing is tried. A loss costs time only."""
    if device == "cpu":
        return
    path = user_dirs.cache() / "batches.json"
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):
            found = _read()
            found.setdefault(_key(model, layers), {})[device] = atoms
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(found, indent=2))
            partial.replace(path)


def _key(model: str, layers: tuple[int, ...]) -> str:
    return f"{model} to layer {max(layers)}"


def _read() -> dict[str, dict[str, int]]:
    with suppress(OSError, ValueError):
        found: dict[str, dict[str, int]] = json.loads(
            (user_dirs.cache() / "batches.json").read_text()
        )
        return found
    return {}
