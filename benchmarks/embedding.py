"""Atoms embedded per second: our workers against each model's own ways. `embedding.py [JSON(.gz)]`

The structures are the `snl` entries of a JSON list, by default the AFLOW prototypes that pymatgen
ships. All ways run in this one call, one after the other, each on the structures whose elements
the model knows; loading a model is not counted, the first forward is.
"""

import gzip
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # the models' own ways: one thread, as one worker has

import numpy as np
import pyarrow as pa
from ase import Atoms
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor
from rich.console import Console
from rich.table import Table

from platonic_store.runtimes import cards
from platonic_store.runtimes.cores import usable_cores
from platonic_store.runtimes.requests import SCHEMA
from platonic_store.runtimes.workers import WorkerPool

PROTOTYPES = files("pymatgen") / "analysis/prototypes/aflow_prototypes.json.gz"
Way = Callable[[list[Structure]], None]


def read(path: Path, card: cards.Card) -> list[Structure]:
    """The structures of a file whose elements the model knows."""
    with (gzip.open if path.suffix == ".gz" else open)(path) as file:
        structures = [Structure.from_dict(entry["snl"]) for entry in json.load(file)]
    known = set(card.elements)
    return [one for one in structures if known.issuperset(one.atomic_numbers)]


def batch(structures: list[Structure]) -> pa.RecordBatch:
    """The structures as a worker wants them."""
    rows = [
        {
            "id": str(i),
            "numbers": one.atomic_numbers,
            "positions": one.cart_coords.ravel(),
            "cell": one.lattice.matrix.ravel(),
            "pbc": [True] * 3,
        }
        for i, one in enumerate(structures)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)


def ours(pool: WorkerPool) -> Way:
    """All structures through a pool."""

    def run(structures: list[Structure]) -> None:
        answers = list(pool.embed([batch(structures)]))
        assert sum(len(answer.rejected) for answer in answers) == 0

    return run


def calculator(card: cards.Card) -> Way:
    """Energy and forces of one structure after the other, as users ask an ASE calculator."""
    if card.family == "sevennet":
        from sevenn.calculator import SevenNetCalculator

        calc = SevenNetCalculator(card.loader, device="cpu")
    else:
        from chgnet.model import CHGNet, CHGNetCalculator

        model = CHGNet.load(model_name=card.loader, use_device="cpu", verbose=False)
        calc = CHGNetCalculator(model, use_device="cpu")

    def run(structures: list[Structure]) -> None:
        for structure in structures:
            atoms: Atoms = AseAtomsAdaptor.get_atoms(structure)
            atoms.calc = calc
            assert np.isfinite(atoms.get_potential_energy())
            atoms.get_forces()

    return run


def chgnet_features(card: cards.Card, task: str) -> Way:
    """CHGNet's own batched way to atom features; `task` "efsm" is its default, "e" its fastest."""
    from chgnet.model import CHGNet

    model = CHGNet.load(model_name=card.loader, use_device="cpu", verbose=False)
    return lambda structures: model.predict_structure(structures, task=task, return_atom_feas=True)


def measure(run: Way, structures: list[Structure]) -> float:
    """Atoms per second."""
    start = time.perf_counter()
    run(structures)
    return sum(map(len, structures)) / (time.perf_counter() - start)


def compare(name: str, path: Path) -> dict[str, float]:
    """Way → atoms per second, the model's ASE calculator first."""
    card = cards.resolve(name)
    structures = read(path, card)
    rates = {"its ASE calculator, one by one": measure(calculator(card), structures)}
    if card.family == "chgnet":
        for task in ("efsm", "e"):
            way = f'its predict_structure(task="{task}", return_atom_feas=True)'
            rates[way] = measure(chgnet_features(card, task), structures)
    for spec in ("default", "all"):
        for workers in sorted({1, usable_cores()}):
            with WorkerPool(card, cards.layers_wanted(card, spec), workers=workers) as pool:
                rates[f"ours, layers {spec}, {workers} workers"] = measure(ours(pool), structures)
    return rates


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(str(PROTOTYPES))
    table = Table("model", "way", "atoms/s", "ratio", title=f"Embedding {path.name}")
    for name in ("sevennet-0", "chgnet-0.3.0"):
        rates = compare(name, path)
        base = next(iter(rates.values()))
        for way, rate in rates.items():
            table.add_row(name, way, f"{rate:.0f}", f"{rate / base:.1f}×")
        table.add_section()
    Console(width=110).print(table)
    print(f"load average while measuring: {os.getloadavg()[1]:.1f} on {usable_cores()} cores")


if __name__ == "__main__":
    main()
