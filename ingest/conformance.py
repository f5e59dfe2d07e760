"""What every adapter must do, checked on a loaded model. `python conformance.py REQUEST`

The request is JSON: card, device. Each check prints one JSON line, the fields of `Result`. What is
checked is in `ingest/checks/`.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    # So that `ingest` is imported as a package.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from ingest.checks.card import loaded_whole, matches_card
from ingest.checks.deviations import TOLERANCE
from ingest.checks.features import CHECKS, mirror, rotation, supercell
from ingest.checks.official import OFFICIAL, OUTPUTS, official_part
from ingest.checks.speed import speed
from ingest.embedder import one_line
from ingest.families import Model, load


class Result(NamedTuple):
    """The result of one check; `tolerance` is None where `measured` is only reported."""

    check: str
    passed: bool
    measured: float | None
    tolerance: float | None
    remark: str


def conform(card: Mapping[str, Any], device: str = "auto") -> Iterator[Result]:
    """Every check that applies to the model of a card, one after the other."""
    model = load(card, device)
    found = _result(matches_card, None, model, card)
    versions = ", ".join(f"{name} {number}" for name, number in model.versions.items())
    yield found._replace(remark=versions) if found.passed else found
    yield _result(loaded_whole, TOLERANCE, model, card)
    excepted = _excepted(card)
    for check, tolerance in CHECKS.items():
        if check in excepted:
            yield _reported(check, model, drawn=card["seed"] is not None)
        else:
            yield _result(check, tolerance, model)
    official = official_part(card)
    for name, (comparison, limit) in OFFICIAL.items():
        if hasattr(official, name):
            yield _result(comparison, limit, model, official)
    if hasattr(model, "predict") and hasattr(official, "calculator"):
        for comparison, limit in OUTPUTS.items():
            yield _result(comparison, limit, model, official)
    yield _speed(model, card, official)


def _excepted(card: Mapping[str, Any]) -> set[Callable[[Model], float]]:
    """The checks that the card says will fail."""
    invariant = {
        rotation: card["invariant"],
        mirror: card["invariant"] and card["mirror_invariant"],
        supercell: card["supercell_invariant"],
    }
    return {check for check, holds in invariant.items() if not holds}


def _result(check: Callable[..., float], tolerance: float | None, *arguments: Any) -> Result:
    try:
        return Result(check.__name__, True, check(*arguments), tolerance, "")
    except Exception as error:
        return Result(check.__name__, False, None, tolerance, one_line(error))


def _speed(model: Model, card: Mapping[str, Any], official: Any) -> Result:
    try:
        measured, remark = speed(model, card, official)
    except Exception as error:
        return Result("speed", False, None, None, one_line(error))
    return Result("speed", True, measured, None, remark)


def _reported(check: Callable[..., float], model: Model, *, drawn: bool) -> Result:
    """A check that the card says will fail: reports by how much.

    drawn: whether its weights are random: such may hardly use what breaks the invariance.
    """
    found = _result(check, TOLERANCE, model)
    if found.passed and drawn:
        return found._replace(remark="invariant with random weights, though not by construction")
    if found.passed:
        return found._replace(passed=False, remark="invariant, though the card says it is not")
    return found._replace(passed=True, tolerance=None, remark=f"as the card says: {found.remark}")


def main() -> None:
    """Only results go to stdout: what a library prints goes to stderr."""
    sink = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.loads(sys.argv[1])
    try:
        for result in conform(request["card"], request["device"]):
            print(json.dumps(result._asdict()), file=sink, flush=True)
    except Exception as error:
        sys.exit(one_line(error))


if __name__ == "__main__":
    main()
