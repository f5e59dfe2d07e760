"""Every model on one device, a GPU or the CPU: `device.py [MODEL …] [--device cuda] [--seconds S]`

For each model (all whose environments are here, if none is named), in its own interpreter: whether
it is right there (the conformance kit on the device, and embeddings of all layers beside the CPU's,
an atom's vector relative to its norm, tolerance 1e-4), then how fast. A table by batch size: what
the adapter's `embed` takes of graphs that are ready, copies to and from the device included, each
pass launched before the last one's results are waited for; of it the device's kernels; the device's
utilisation; the peak of its memory. The sizes double until memory runs out, or to `--most`. Then
end to end: structures through a worker as `ingest` runs it, with the shares of the wall in which it
waited for graphs, ran the model, and waited for what the device was still computing or copying
(where a GPU is never waited for, it waits for the program); and the package's own ASE calculator in
a loop over structures on the same device.

float32 without TF32, whatever a package sets. Weights that are not at hand are random ones of the
same architecture, which cost the same. Printed is Markdown, with the names of card and precision.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.device_use import Utilisation
from benchmarks.embedding import ready, run_script, runnable
from platonic_store import structures
from platonic_store.runtimes.batching import SCHEMA
from platonic_store.runtimes.preparation import RunnableModel
from platonic_store.runtimes.workers import WorkerPool

SCRIPT = Path(__file__).with_name("one_device.py")


def crystals(source: str, model: RunnableModel, count: int) -> pa.RecordBatch:
    """The first structures of a source whose elements the model knows."""
    known = set(model.card.elements)
    rows = (
        row
        for batch in structures.read(source)
        for row in batch.structures.select(SCHEMA.names).cast(SCHEMA).to_pylist()
        if known.issuperset(row["numbers"])
    )
    return pa.RecordBatch.from_pylist(list(islice(rows, count)), schema=SCHEMA)


def in_its_interpreter(
    model: RunnableModel, batch: pa.RecordBatch, asked: argparse.Namespace
) -> dict[str, Any]:
    """What one_device.py measures."""
    request = {
        "card": model.card.as_dict(),
        "device": asked.device,
        "seconds": asked.seconds,
        "most": asked.most,
        "kit": not asked.without_kit,
    }
    return run_script(SCRIPT, model, batch, request)


def end_to_end(
    model: RunnableModel,
    batch: pa.RecordBatch,
    asked: argparse.Namespace,
    batch_atoms: int,
    gpu: str | None,
) -> dict[str, float | None]:
    """Through one worker, its start not counted."""
    layers = (model.card.default_layer,)
    with WorkerPool(
        model.card,
        layers,
        python=model.python,
        device=asked.device,
        batch_atoms=batch_atoms,
        workers=1,
    ) as pool:
        list(pool.embed([batch]))  # what compiles, compiles; graph processes start
        atoms, graph, forward, waiting, rounds = 0, 0.0, 0.0, 0.0, 0
        with Utilisation(gpu) as used:
            begun = time.perf_counter()

            def source() -> Iterator[pa.RecordBatch]:
                nonlocal rounds
                while not rounds or time.perf_counter() - begun < asked.seconds:
                    rounds += 1
                    yield batch

            for answer in pool.embed(source()):
                atoms += answer.table.num_rows
                graph += answer.seconds_graph
                forward += answer.seconds_forward
                waiting += answer.seconds_waiting
            wall = time.perf_counter() - begun
    return {
        "rate": atoms / wall,
        "forward": 100 * forward / wall,
        "graphs": 100 * graph / wall,
        "results": 100 * waiting / wall,
        "utilisation": used.mean(),
    }


def cell(value: float | None, form: str = ",.0f", unit: str = "") -> str:
    return "–" if value is None else format(value, form) + unit


def report(model: RunnableModel, asked: argparse.Namespace) -> Iterator[str]:
    """A model's lines of Markdown."""
    batch = crystals(asked.source, model, asked.structures)
    found = in_its_interpreter(model, batch, asked)
    yield f"\n### {model.card.name}\n"
    yield f"{found['name']}, torch {found['torch']}, {json.dumps(found['precision'])}; " + (
        f"layer {model.card.default_layer}, {batch.num_rows} structures\n"
    )
    if found["kit"]:
        failed = [one for one in found["kit"] if not one["passed"]]
        yield f"- conformance kit on the device: {len(found['kit']) - len(failed)} of " + (
            f"{len(found['kit'])} checks passed"
        )
        yield from (f"    - **{one['check']}: {one['remark']}**" for one in failed)
        same = [one["measured"] for one in found["kit"] if one["check"] == "deterministic"]
        yield f"- the same twice: deviates by {cell(same[0] if same else None, '.1e')}"
    if found["deviation"] is not None:
        says = "within" if found["deviation"] < 1e-4 else "**beyond**"
        yield f"- beside the CPU's embeddings: {found['deviation']:.1e}, {says} 1e-4"
    yield f"- graphs: {found['graphs']:,.0f} structures a second in one process"
    if found["together"]:
        yield (
            f"- graphs on the device: {found['together']['rate']:,.0f} structures a second; with "
            f"them embeddings deviate by {found['together']['deviation']:.1e}, tolerance 1e-5"
        )
    if (waits := found["sizes"][-1]["synchronisations"]) is not None:
        yield f"- a pass is launched with {waits} waits for the device on the way"
    yield ""
    heads = "batch, atoms", "edges", "ms", "atoms/s, forward only"
    yield f"| {' | '.join((*heads, 'kernels', 'utilisation', 'peak, GiB'))} |\n|{'---|' * 7}"
    for row in found["sizes"]:
        yield (
            f"| {row['atoms']:,} | {row['edges']:,} | {row['ms']:,.1f} | {row['rate']:,.0f} | "
            f"{cell(row['kernels'], unit=' %')} | {cell(row['utilisation'], unit=' %')} | "
            f"{cell(row['gib'], '.2f')} |"
        )
    yield f"\nlargest batch: {found['largest']}\n"
    best = max(found["sizes"], key=lambda row: row["rate"])
    whole = end_to_end(model, batch, asked, best["asked"], found["gpu"])
    yield (
        f"- end to end, batches of {best['asked']:,} atoms: {whole['rate']:,.0f} atoms/s; of the "
        f"wall, the worker built or waited for graphs {whole['graphs']:.0f} %, ran the model "
        f"{whole['forward']:.0f} %, and of this waited for results and their copies "
        f"{whole['results']:.0f} %; utilisation {cell(whole['utilisation'], unit=' %')}"
    )
    if found["calculator"]:
        assert whole["rate"] is not None
        yield (
            f"- its own calculator in a loop: {found['calculator']:,.0f} atoms/s; ours "
            f"{whole['rate'] / found['calculator']:.1f}× end to end, "
            f"{best['rate'] / found['calculator']:.1f}× forward only"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=None)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1")
    parser.add_argument("--source", default="builtin:aflow-prototypes")
    parser.add_argument("--structures", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--most", type=int, help="atoms in a batch; default: 384 on a CPU")
    parser.add_argument("--without-kit", action="store_true")
    asked = parser.parse_args()
    if asked.most is None:
        asked.most = 384 if asked.device == "cpu" else 1 << 22
    for name in asked.models or runnable():
        try:
            for line in report(ready(name, {}), asked):
                print(line, flush=True)
        except Exception as error:  # the next model may run
            print(f"\n### {name}\n\n**{type(error).__name__}: {error}**", flush=True)
    print(f"\nload average while measuring: {os.getloadavg()[1]:.1f}")


if __name__ == "__main__":
    main()
