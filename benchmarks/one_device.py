"""Runs in a family's own interpreter: `one_device.py REQUEST < structures.arrow`; see device.py.

The request is JSON: card, device, seconds (of each measurement), most (atoms in a batch), kit
(whether it is run). Printed is one JSON line.
"""

import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, cast

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import pyarrow as pa

from benchmarks.device_use import Utilisation
from ingest.conformance import conform
from ingest.embedder import (
    DeviceGraphBuilder,
    GraphBuilder,
    Rejected,
    device_name,
    edges_of,
    out_of_memory,
    precision,
)
from ingest.families import BuildsTogether, Model, Structure, load, part
from ingest.transfer import Arrivals, deferred
from ingest.worker import on_device, structures_of

COMPARED = 48  # structures beside the CPU's
SMALLEST = 48  # atoms in a batch


def is_gpu(device: str) -> bool:
    return device.startswith("cuda")


def synchronize(device: str) -> None:
    """Waits until the device has done what it was asked: it works behind the program's back."""
    if is_gpu(device):
        import torch

        torch.cuda.synchronize(device)


def gpu_uuid(device: str) -> str | None:
    """As nvidia-smi wants it; None on a CPU."""
    if not is_gpu(device):
        return None
    import torch

    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return None if uuid is None else f"GPU-{uuid}"


def processor() -> str:
    """The name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def repeated(run: Callable[[], Any], seconds: float, device: str) -> float:
    """Seconds that a call takes: the mean of as many as fit the time, at least three."""
    synchronize(device)
    begun = time.perf_counter()
    calls = 0
    while calls < 3 or time.perf_counter() - begun < seconds:
        run()
        calls += 1
    synchronize(device)
    return (time.perf_counter() - begun) / calls


def kernel_seconds(run: Callable[[], Any], device: str) -> float | None:
    """Seconds in which the device computes or copies during one call; None on a CPU."""
    if not is_gpu(device):
        return None
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        run()
        synchronize(device)
    total = 0.0
    for event in profiler.key_averages():
        if str(getattr(event, "device_type", "")).endswith("CUDA"):
            total += getattr(event, "self_device_time_total", 0.0)
    return total * 1e-6


def synchronisations(run: Callable[[], Any], device: str) -> int | None:
    """How often a pass waits for the device while it is launched; None on a CPU."""
    if not is_gpu(device):
        return None
    import torch

    with warnings.catch_warnings(record=True) as said, deferred():
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    synchronize(device)
    return sum("synchroniz" in str(one.message) for one in said)


def batch_of(graphs: Sequence[Any], sizes: Sequence[int], atoms: int) -> tuple[list[Any], int]:
    """Graphs in turn, over again where they are too few, and how many atoms they have."""
    taken: list[Any] = []
    count = 0
    for graph, size in cycle(zip(graphs, sizes, strict=True)):
        if taken and count + size > atoms:
            return taken, count
        taken.append(graph)
        count += size
    raise AssertionError("no graphs")


def by_size(
    model: Model, graphs: Sequence[Any], sizes: Sequence[int], layer: int, request: dict[str, Any]
) -> tuple[list[dict[str, Any]], str]:
    """Forward passes of batches that double, until memory runs out; and what stopped it."""
    rows: list[dict[str, Any]] = []
    device, atoms = model.device, SMALLEST
    gpu = gpu_uuid(device)
    while atoms <= request["most"]:
        batch, count = batch_of(graphs, sizes, atoms)

        on_their_way: list[Arrivals] = []

        def run(batch: list[Any] = batch, before: list[Arrivals] = on_their_way) -> None:
            with deferred() as arrivals:
                model.embed(batch, [layer])
            before.append(arrivals)
            if len(before) > 1:
                before.pop(0).wait()

        try:
            if is_gpu(device):
                import torch

                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(device)
            for _ in range(3):  # what compiles, compiles: TorchScript in the first two
                run()
            with Utilisation(gpu) as used:
                seconds = repeated(run, request["seconds"], device)
            gib = None
            if is_gpu(device):
                gib = torch.cuda.max_memory_allocated(device) / 2**30
            busy = kernel_seconds(run, device)
        except Exception as error:
            if not out_of_memory(error):
                raise
            del error
            if is_gpu(device):
                torch.cuda.empty_cache()
            largest = f"{rows[-1]['atoms']:,} atoms" if rows else "none"
            return rows, f"{largest}; {count:,} atoms do not fit"
        rows.append(
            {
                "asked": atoms,
                "atoms": count,
                "edges": sum(map(edges_of, batch)),
                "ms": 1e3 * seconds,
                "rate": count / seconds,
                "kernels": None if busy is None else 100 * busy / seconds,
                "utilisation": used.mean(),
                "gib": gib,
                "synchronisations": synchronisations(run, device),
            }
        )
        atoms *= 2
    return rows, f"{rows[-1]['atoms']:,} atoms, and no larger was tried"


def deviation(model: Model, other: Model, graphs: Sequence[Any], others: Sequence[Any]) -> float:
    """The largest difference of an atom's vector, relative to its norm, in any layer."""
    layers = sorted(model.layers)
    wanted = other.embed(others, layers)
    found = model.embed(graphs, layers)
    worst = 0.0
    for layer in layers:
        norms = np.linalg.norm(wanted[layer], axis=1)
        apart = np.linalg.norm(found[layer] - wanted[layer], axis=1)
        worst = max(worst, float(np.max(apart / np.maximum(norms, 1e-12))))
    return worst


def calculator_rate(
    model: Model, card: dict[str, Any], structures: Sequence[Structure], seconds: float
) -> float | None:
    """Atoms a second of the package's own ASE calculator: energy and forces, one by one."""
    if not (Path(card["folder"]) / "official.py").exists():
        return None
    official = part(card, "official")
    if not hasattr(official, "calculator"):
        return None
    from ase import Atoms

    calculator = official.calculator(model)
    done, begun = 0, 0.0
    for place, one in enumerate(cycle(structures)):
        if place == 3:  # what compiles has compiled
            done, begun = 0, time.perf_counter()
        if place > 3 and time.perf_counter() - begun > seconds:
            break
        atoms = Atoms(one.numbers, one.positions, cell=one.cell, pbc=one.pbc, calculator=calculator)
        atoms.get_potential_energy()
        atoms.get_forces()
        done += len(one.numbers)
    synchronize(model.device)
    return done / (time.perf_counter() - begun)


def measure(request: dict[str, Any], structures: list[Structure]) -> dict[str, Any]:
    """All of it, in the order in which it is printed."""
    card, seconds = request["card"], request["seconds"]
    kit = [one._asdict() for one in conform(card, request["device"])] if request["kit"] else []
    model = load(card, request["device"])
    said = precision(model.device)
    builder = GraphBuilder(card["name"], model.elements, model.graph)
    begun = time.perf_counter()
    built = [(one, builder(one)) for one in structures]
    graph_seconds = time.perf_counter() - begun
    kept = [(one, graph) for one, graph in built if not isinstance(graph, Rejected)]
    graphs = [graph for _, graph in kept]
    sizes = [len(one.numbers) for one, _ in kept]
    few = graphs[:COMPARED]
    deviates = deviation(model, load(card, "cpu"), few, few) if is_gpu(model.device) else None
    together: dict[str, float] = {}
    if on_device(model):
        build = DeviceGraphBuilder(builder, cast(BuildsTogether, model))
        at_once = [list(build([one for one, _ in kept])) for _ in range(2)][1]  # the first compiles
        begun = time.perf_counter()
        list(build([one for one, _ in kept]))
        synchronize(model.device)
        together["rate"] = len(kept) / (time.perf_counter() - begun)
        together["deviation"] = deviation(model, model, at_once[:COMPARED], few)
    rows, largest = by_size(model, graphs, sizes, card["default_layer"], request)
    torch = sys.modules.get("torch")
    return {
        "name": processor() if model.device == "cpu" else device_name(model.device),
        "torch": "–" if torch is None else torch.__version__,
        "gpu": gpu_uuid(model.device),
        "precision": said,
        "kit": kit,
        "deviation": deviates,
        "graphs": len(structures) / graph_seconds,
        "together": together,
        "sizes": rows,
        "largest": largest,
        "calculator": calculator_rate(model, card, [one for one, _ in kept], seconds),
    }


def main() -> None:
    sink = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    batch = pa.ipc.open_stream(sys.stdin.buffer).read_next_batch()
    print(json.dumps(measure(json.loads(sys.argv[1]), structures_of(batch))), file=sink)


if __name__ == "__main__":
    main()
