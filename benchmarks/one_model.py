"""Runs in a family's own interpreter: `one_model.py REQUEST < structures.arrow`; see embedding.py.

The request is JSON, the card. Printed is one JSON line: way → atoms per second, in this one
process, by turns over the same structures, so that whatever else the machine does hits all alike.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import pyarrow as pa

from ingest.embedder import EmbeddedStructure, Embedder, GraphBuilder
from ingest.families import Model, Structure, load, part
from ingest.worker import structures_of

TURN = 40  # structures that each way does before the next has its turn
Way = Callable[[Sequence[Structure]], None]


def embedding(model: Model, layers: Sequence[int], name: str) -> Way:
    """Ours: what a worker does."""
    embedder = Embedder(model, layers, None)
    build = GraphBuilder(name, model.elements, model.graph)

    def run(structures: Sequence[Structure]) -> None:
        for result in embedder.embed(structures, [build(one) for one in structures]):
            assert isinstance(result, EmbeddedStructure), result

    return run


def calculator(model: Model, official: Any) -> Way:
    """Energy and forces of one structure after the other, as users ask an ASE calculator."""
    from ase import Atoms  # not in the environment of a control

    calc = official.calculator(model)

    def run(structures: Sequence[Structure]) -> None:
        for one in structures:
            atoms = Atoms(one.numbers, one.positions, cell=one.cell, pbc=one.pbc, calculator=calc)
            assert np.isfinite(atoms.get_potential_energy())
            atoms.get_forces()

    return run


def features(model: Model, official: Any) -> Way:
    """The package's own way to features, one structure after the other."""

    def run(structures: Sequence[Structure]) -> None:
        for one in structures:
            official.features(model, one)

    return run


def measure(ways: dict[str, Way], structures: Sequence[Structure]) -> dict[str, float]:
    """Atoms per second of each, after one turn that is not counted."""
    for run in ways.values():
        run(structures[:3])
    seconds = dict.fromkeys(ways, 0.0)
    for start in range(0, len(structures), TURN):
        for name, run in ways.items():
            begun = time.perf_counter()
            run(structures[start : start + TURN])
            seconds[name] += time.perf_counter() - begun
    atoms = sum(len(one.numbers) for one in structures)
    return {name: atoms / spent for name, spent in seconds.items()}


def main() -> None:
    sink = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    card = json.loads(sys.argv[1])
    batch = pa.ipc.open_stream(sys.stdin.buffer).read_next_batch()
    model = load(card, "cpu")
    ways = {"ours": embedding(model, [card["default_layer"]], card["name"])}
    if len(model.layers) > 1:
        ways["ours, all layers"] = embedding(model, sorted(model.layers), card["name"])
    if (Path(card["folder"]) / "official.py").exists():
        official = part(card, "official")
        if hasattr(official, "features"):
            ways["features"] = features(model, official)
        if hasattr(official, "calculator"):
            ways["calculator"] = calculator(model, official)
    print(json.dumps(measure(ways, structures_of(batch))), file=sink)


if __name__ == "__main__":
    main()
