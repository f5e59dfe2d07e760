"""What the conformance kit last found of each model on this machine, kept in the user's cache."""

import json
import platform
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock

from platonic_store.runtimes import user_dirs
from platonic_store.runtimes.cards import RANDOM, Card
from platonic_store.runtimes.conformance import Result
from platonic_store.runtimes.environments import Environment


def remember(card: Card, results: Sequence[Result]) -> None:
    """Note when, where, at which versions and how the kit ended; a cache out of reach is ignored.

    The record of a model with random weights is its own: `control:random:MODEL`.
    """
    failed = [result.check for result in results if not result.passed]
    speed = next(each for each in results if each.check == "speed")
    ratio = re.search(r"([0-9.]+) times", speed.remark)
    found = {
        "versions": next((each.remark for each in results if each.check == "matches_card"), ""),
        "weights_sha256": card.checkpoint_sha256,
        "checks": len(results),
        "atoms_per_second": speed.measured,
        "times_calculator": float(ratio[1]) if ratio else None,
        "deviations": {each.check: each.measured for each in results if each.tolerance is not None},
    }
    _write(card, failed, found)


def remember_failure(card: Card, reason: str) -> None:
    """Note why a model could not be checked at all."""
    _write(card, [reason], {})


def age(card: Card) -> tuple[bool, str]:
    """Sorts what was never checked in today's environment first, then what was longest ago."""
    found = newest(card.name)
    return found.get("environment") == _environment(card), found.get("when", "")


def _environment(card: Card) -> str:
    """Names the packages of the card's family, their versions and the platform."""
    return Environment.of(card).folder.name


def _write(card: Card, failed: list[str], found: dict[str, Any]) -> None:
    record = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": f"{platform.system()} {platform.machine()}",
        "environment": _environment(card),
        "weights": "published" if card.seed is None else "random",
    } | found
    with suppress(OSError):
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):
            every = _read()
            kept = every.setdefault(card.name, {})
            kept["failed" if failed else "passed"] = record | ({"failed": failed} if failed else {})
            if not failed:
                kept.pop("failed", None)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(every, indent=2))
            partial.replace(path)


def last(name: str) -> dict[str, Any]:
    """ "passed": the last time that the kit passed; "failed": a later time that it did not.

    Of a model that was never checked, those of its network with random weights.
    """
    found = _read()
    return found.get(name) or found.get(f"{RANDOM}{name}") or {}


def newest(name: str) -> dict[str, Any]:
    """The newer record of `last`; empty where there is none."""
    records = last(name)
    found: dict[str, Any] = records.get("failed") or records.get("passed") or {}
    return found


def _path() -> Path:
    return user_dirs.cache() / "checks.json"


def _read() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(_path().read_text())
    except (OSError, ValueError):
        return {}
    return found
