"""What the conformance kit last found of each model on this machine, kept in the user's cache."""

import json
import platform
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock

from platonic_store.runtimes import user_dirs
from platonic_store.runtimes.cards import Card
from platonic_store.runtimes.conformance import Result


def remember(card: Card, results: Sequence[Result]) -> None:
    """Note when, where and at which versions the kit passed; a cache out of reach is ignored."""
    failed = [result.check for result in results if not result.passed]
    versions = next((each.remark for each in results if each.check == "matches_card"), "")
    record = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        "weights_sha256": card.checkpoint_sha256,
        "checks": len(results),
    }
    with suppress(OSError):
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):
            found = _read()
            kept = found.setdefault(card.name, {})
            kept["failed" if failed else "passed"] = record | ({"failed": failed} if failed else {})
            if not failed:
                kept.pop("failed", None)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(found, indent=2))
            partial.replace(path)


def last(name: str) -> dict[str, Any]:
    """ "passed": the last time that the kit passed; "failed": a later time that it did not."""
    found: dict[str, Any] = _read().get(name, {})
    return found


def _path() -> Path:
    return user_dirs.cache() / "checks.json"


def _read() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(_path().read_text())
    except (OSError, ValueError):
        return {}
    return found
