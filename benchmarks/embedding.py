"""Every model's speed against its own package's ways: `embedding.py [MODEL …] [--structures N]`

Each model (all whose environments are here, if none is named; one that is named gets its own) runs
in its family's own environment, in one process of one thread, by turns with its package's ways over
the same AFLOW prototypes that pymatgen ships: its ASE calculator (energy and forces) and, where it
has one, its own way to atom features, one structure at a time. In brackets: how many times the
calculator's speed. Loading is not counted. The last column is ours through a pool of a worker for
each core, over all of the prototypes. Models whose weights are not at hand (`--checkpoint` names
some) run with random ones, which cost the same. Printed is a Markdown table, a line a model
as it comes.
"""

import argparse
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from platonic_store import structures
from platonic_store.cli.options import by_name
from platonic_store.runtimes import cards, checkpoints, environments
from platonic_store.runtimes.batching import SCHEMA
from platonic_store.runtimes.cores import usable_cores
from platonic_store.runtimes.environments import Environment, size_gb
from platonic_store.runtimes.preparation import RunnableModel, prepare
from platonic_store.runtimes.variables import VARIABLES
from platonic_store.runtimes.workers import WorkerPool

SCRIPT = Path(__file__).with_name("one_model.py")
POOL = f"pool of {usable_cores()}"
COLUMNS = {
    "calculator": "its calculator",
    "features": "its features",
    "ours": "ours",
    "ours, all layers": "ours, all layers",
    POOL: f"ours, {POOL}",
}


def crystals(card: cards.Card, count: int) -> pa.RecordBatch:
    """The first prototypes whose elements the model knows."""
    (batch,) = structures.read("builtin:aflow-prototypes", batch_size=10_000)
    known = set(card.elements)
    rows = batch.structures.select(SCHEMA.names).cast(SCHEMA).to_pylist()
    fitting = [row for row in rows if known.issuperset(row["numbers"])]
    return pa.RecordBatch.from_pylist(fitting[:count], schema=SCHEMA)


def ready(name: str, given: dict[str, str]) -> RunnableModel:
    """The model with weights that are here, else with random ones."""
    card = cards.resolve(name)
    if checkpoints.requires_download(card) and not (name in given or checkpoints.find_local(card)):
        name = f"{cards.RANDOM}{name}"
    mine = {name: given[name]} if name in given else None
    return prepare([name], checkpoint=mine)[0]


def run_script(
    script: Path, model: RunnableModel, batch: pa.RecordBatch, request: dict[str, Any]
) -> dict[str, Any]:
    """What a script says, as JSON, of structures on its stdin, in the model's interpreter."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        writer.write_batch(batch)
    done = subprocess.run(
        [model.python, "-W", "ignore", script, json.dumps(request)],
        input=sink.getvalue().to_pybytes(),
        stdout=subprocess.PIPE,
        env=os.environ | VARIABLES,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def in_a_pool(model: RunnableModel, batch: pa.RecordBatch) -> float:
    """Atoms per second through the workers of an ingest; their start is not counted.

    The batch must be many requests, or most of the time one worker waits for the other's last.
    """
    with WorkerPool(model.card, (model.card.default_layer,), python=model.python) as pool:
        list(pool.embed([batch.slice(0, 4)]))
        start = time.perf_counter()
        atoms: int = sum(answer.table.num_rows for answer in pool.embed([batch]))
        return atoms / (time.perf_counter() - start)


def table(names: list[str], count: int, given: dict[str, str]) -> Iterator[str]:
    """Lines of Markdown."""
    heads = ["model", "environment, GB", *COLUMNS.values()]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for name in names:
        model = ready(name, given)
        rates = run_script(SCRIPT, model, crystals(model.card, count), model.card.as_dict())
        rates[POOL] = in_a_pool(model, crystals(model.card, 1000))
        base = rates.get("calculator")
        cells = [name, f"{_size(Environment.of(model.card)):.1f}"]
        for way in COLUMNS:
            rate = rates.get(way)
            ratio = f" ({rate / base:.1f}×)" if rate and base and way != "calculator" else ""
            cells.append(f"{rate:,.0f}{ratio}" if rate else "–")
        yield f"| {' | '.join(cells)} |"


def _size(environment: Environment) -> float:
    """Measured where the environment is installed here, else as its specification says."""
    return size_gb(environment.folder) if environment.is_installed() else environment.size_gb


def runnable() -> list[str]:
    """The models whose environments are here."""
    every = cards.load_cards().items()
    return [name for name, card in every if environments.state(card) in ("this Python", "ready")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=runnable())
    parser.add_argument("--structures", type=int, default=120)
    parser.add_argument("--checkpoint", action="append", default=[], metavar="MODEL=PATH")
    options = parser.parse_args()
    given = by_name(options.checkpoint)
    for line in table(options.models, options.structures, given if isinstance(given, dict) else {}):
        print(line, flush=True)
    print(f"\nload average while measuring: {os.getloadavg()[1]:.1f} on {usable_cores()} cores")


if __name__ == "__main__":
    main()
