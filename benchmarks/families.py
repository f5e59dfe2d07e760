"""Every family in one store: `families.py SOURCE --store PATH [--count 300]`

One model of each family embeds the same crystals, with its published weights where they are here
and otherwise with random ones on its real architecture; then any two are asked across. Fails where
a pair does not answer. Environments that are not here are made first.
"""

import argparse
import sys
from itertools import islice, permutations
from pathlib import Path

import numpy as np
from ase import Atoms
from rich.console import Console
from rich.table import Table

from platonic_store.errors import PlatonicError
from platonic_store.jobs.runs import RunReport
from platonic_store.runtimes import cards, checkpoints
from platonic_store.runtimes.cores import usable_cores
from platonic_store.store import Store
from platonic_store.structures import read

MODELS = (
    "mace-mp-0-small",
    "orb-v3-con-omat",
    "sevennet-0",
    "chgnet-0.3.0",
    "tensornet-matpes-pbe",
    "nequix-omat-1",
    "nequip-oam-l",
    "pet-omat-xs",
    "uma-s-1p1-omat",
    "mattersim-v1-1m",
    "grace-1l-oam-l",
    "dpa-3.1-3m",
    "hienet",
    "control:soap",
    "control:composition",
)
K = 3


def at_hand(name: str) -> str:
    """The model, or its architecture with random weights."""
    card = cards.resolve(name)
    away = checkpoints.requires_download(card) and not checkpoints.find_local(card)
    return f"{cards.RANDOM}{name}" if away else name


def first(source: str, count: int) -> dict[str, Atoms]:
    """The first crystals of a source by id."""
    rows = (row for batch in read(source) for row in batch.structures.to_pylist())
    return {
        row["id"]: Atoms(
            row["numbers"],
            np.reshape(row["positions"], (-1, 3)),
            cell=np.reshape(row["cell"], (3, 3)),
            pbc=row["pbc"],
        )
        for row in islice(rows, count)
    }


def failures(store: Store, models: list[str], asked: list[str]) -> list[str]:
    """Which ordered pairs of models do not answer for an atom."""
    found = []
    for number, (one, other) in enumerate(permutations(models, 2)):
        id_ = asked[number % len(asked)]
        try:
            ranks = store.similar(id_, model=one, across=other, site=0, k=K)["rank"].tolist()
        except PlatonicError as error:
            found.append(f"{one} → {other}, {id_}: {error}")
            continue
        if ranks != [*range(1, K + 1)]:
            found.append(f"{one} → {other}, {id_}: ranks {ranks}")
    return found


def show(runs: list[RunReport]) -> None:
    table = Table(title=f"{len(runs)} models, {usable_cores()} cores")
    table.add_column("model")
    for name in ("weights", "structures", "rejected", "atoms", "s", "atoms/s of a worker"):
        table.add_column(name, justify="right")
    for run in runs:
        name = run.model.removeprefix(cards.RANDOM)
        weights = "random" if name != run.model else "published"
        weights = "–" if name in ("control:soap", "control:composition") else weights
        working = run.seconds_graph + run.seconds_forward
        counts = (run.structures, run.rejected, run.sites)
        times = (f"{run.seconds_wall:.0f}", f"{run.sites / max(working, 1e-9):.0f}")
        table.add_row(name, weights, *map(str, counts), *times)
    Console(width=100).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--models", nargs="+", default=MODELS)
    asked = parser.parse_args()
    store = Store.open(asked.store)
    crystals = first(asked.source, asked.count)
    models = [at_hand(name) for name in asked.models]
    _, runs = store.ingest(crystals, models)
    show(runs)
    store.select_anchors(k=min(256, len(crystals)), method="random")
    store.project()
    missed = failures(store, models, list(crystals))
    pairs = len(models) * (len(models) - 1)
    print(f"{pairs - len(missed)} of {pairs} ordered pairs of models answer an atom's question")
    if missed:
        sys.exit("\n".join(missed[:20]))


if __name__ == "__main__":
    main()
