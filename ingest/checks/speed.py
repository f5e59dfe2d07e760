"""How fast a model embeds, beside its package's own calculator."""

import math
import time
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from ingest.checks.crystals import crystals, repeated
from ingest.families import Model


def speed(model: Model, card: Mapping[str, Any], official: Any) -> tuple[float, str]:
    """Atoms embedded in a second up to the default layer, and a remark: of what second, and how
    many times faster that is than the package's calculator.

    That gives energy and forces, one structure at a time. On a CPU the second is one of the
    processor's, of one core, whatever else runs on the machine.
    """
    cells = [repeated(one, (2, 2, 2)) for one in crystals()[:3]]
    atoms = sum(len(one.numbers) for one in cells)

    def embed() -> None:
        model.embed([model.graph(one) for one in cells], [card["default_layer"]])

    clock = time.process_time if model.device == "cpu" else time.perf_counter
    unit = f"atoms a second{' of one core' if model.device == 'cpu' else ''}"
    ours = atoms / _seconds(embed, clock)
    if not hasattr(official, "calculator"):
        return ours, unit
    from ase import Atoms

    calculator = official.calculator(model)

    def calculate() -> None:
        for one in cells:
            each = Atoms(one.numbers, one.positions, cell=one.cell, pbc=one.pbc)
            each.calc = calculator
            each.get_forces()

    ratio = ours / (atoms / _seconds(calculate, clock))
    return ours, f"{unit}, {ratio:.1f} times its calculator"


def _seconds(work: Callable[[], None], clock: Callable[[], float], enough: float = 1.0) -> float:
    """Of the fastest of some runs, after two that warm up; of one that takes long, of that one."""
    best, since = math.inf, clock()
    for run in count():
        start = clock()
        work()
        took = clock() - start
        if run >= 2 or took > 2 * enough:
            best = min(best, took)
        if best < math.inf and clock() - since > enough:
            return best
    raise AssertionError("unreachable")
