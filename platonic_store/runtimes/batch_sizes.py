"""Batch sizes found by trial, remembered for each model, depth and GPU."""

import json
from contextlib import suppress
from pathlib import Path

import filelock

from platonic_store.runtimes import user_dirs


def load(model: str, layers: tuple[int, ...], outputs: tuple[str, ...]) -> dict[str, int]:
    """Device name → atoms in a forward pass, as earlier runs found it."""
    return _read().get(_key(model, layers, outputs), {})


def save(
    model: str, layers: tuple[int, ...], outputs: tuple[str, ...], device: str, atoms: int
) -> None:
    """Remembers what this run found. Not for a CPU, where nothing is tried.

    A file that cannot be written is ignored: the next run starts smaller, no more.
    """
    if device == "cpu":
        return
    path = _path()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):
            found = _read()
            found.setdefault(_key(model, layers, outputs), {})[device] = atoms
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(found, indent=2))
            partial.replace(path)


def _path() -> Path:
    return user_dirs.cache() / "batch_sizes.json"


def _key(model: str, layers: tuple[int, ...], outputs: tuple[str, ...]) -> str:
    return f"{model} to {' and '.join(outputs) or f'layer {max(layers)}'}"


def _read() -> dict[str, dict[str, int]]:
    with suppress(OSError, ValueError):
        found: dict[str, dict[str, int]] = json.loads(_path().read_text())
        return found
    return {}
