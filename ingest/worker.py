"""One model in its own process, speaking Arrow. `python worker.py '<request>'`

The request is JSON: card (the whole model card), layers (indices), outputs (some of "energy" and
"forces"; where there are any, layers may be empty), device ("auto", "cpu", …), batch_atoms (atoms
in a forward pass, null: automatic), batch_atoms_before (the automatic size of earlier runs, by the
device's name), graph_processes (null: none on a CPU, else one for each core but one). The number of
threads is the environment's OMP_NUM_THREADS.

stdin: an Arrow IPC stream of structures: id string, numbers list<int16>, positions list<double>
(3N, Cartesian, Å), cell fixed_size_list<double>[9], pbc fixed_size_list<bool>[3].

stdout: an Arrow IPC stream. Its schema's metadata is the model's "identity" (JSON), or the "error"
(one line) for which it cannot be loaded. An empty batch, then one for each of stdin, in order: id
string, site_index int32, layer_<i> fixed_size_list<float32>[dim]; then, where asked for, energy
double (eV, of the whole structure, in each of its rows) and forces fixed_size_list<float32>[3]
(eV/Å, Cartesian), both of the same forward pass. A rejected structure has no rows. Each has
metadata "report", JSON: rejected [[id, reason], …], batch_atoms now, seconds_graph (spent on them,
or waiting), seconds_forward, seconds_waiting (of these, for a GPU's results).

A GPU computes behind the program's back: the next request's first pass is launched before the
results of this one's last are waited for, if it has come.

The worker ends when stdin does, or when its parent is gone. It never opens a store.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, BinaryIO, cast

if __name__ == "__main__":
    # So that `ingest` is imported as a package.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import pyarrow as pa

from ingest import neighbours
from ingest.embedder import (
    DeviceGraphBuilder,
    EmbeddedStructure,
    Embedder,
    GraphBuilder,
    Work,
    device_name,
    one_line,
    precision,
)
from ingest.families import (
    BuildsTogether,
    Model,
    Structure,
    former_sha256,
    load,
    part,
    versions,
)

PROTOCOL = 2
OUTPUTS = {
    "energy": pa.field("energy", pa.float64()),
    "forces": pa.field("forces", pa.list_(pa.float32(), 3)),
}


def private_streams() -> tuple[BinaryIO, BinaryIO]:
    """stdin and stdout for this module alone: what other code prints goes to stderr."""
    source, sink = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return os.fdopen(source, "rb"), os.fdopen(sink, "wb")


def die_with_parent(parent: int) -> None:
    """Ends this process soon after `parent` (a process id) has ended, even by a kill."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def start_graph_process(card: dict[str, Any], parent: int) -> None:
    """In a graph process: imports the adapter, whose graph builder is unpickled next."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)
    part(card, "adapter")


def graph_maker(
    card: dict[str, Any], model: Model, processes: int | None
) -> Callable[[list[Structure]], Iterable[Any]]:
    """Of structures their graphs, which are not waited for: built when they are asked for, by the
    model's device where it can, or ahead in other processes.
    """
    builder = GraphBuilder(card["name"], model.elements, model.graph)
    if on_device(model):
        return DeviceGraphBuilder(builder, cast(BuildsTogether, model))
    return partial(graph_mapper(card, model.device, processes), builder)


def on_device(model: Model) -> bool:
    """Whether graphs are built by the device."""
    return model.device.startswith("cuda") and hasattr(model, "graphs") and neighbours.installed()


def graph_mapper(card: dict[str, Any], device: str, processes: int | None) -> Callable[..., Any]:
    """`map`, or a map that computes ahead in other processes."""
    if processes is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        processes = 0 if device == "cpu" else max(1, (cores or 1) - 1)
    if processes == 0:
        return map
    pool = ProcessPoolExecutor(
        processes, get_context("spawn"), start_graph_process, (card, os.getpid())
    )
    return partial(pool.map, chunksize=4)


def structures_of(batch: pa.RecordBatch) -> list[Structure]:
    """The rows of a request."""
    sizes = batch["numbers"].value_lengths().to_numpy(zero_copy_only=False)
    ends = np.cumsum(sizes)[:-1]
    numbers = np.split(batch["numbers"].flatten().to_numpy(zero_copy_only=False), ends)
    flat = batch["positions"].flatten().to_numpy(zero_copy_only=False)
    positions = np.split(flat.reshape(-1, 3), ends)
    cells = batch["cell"].flatten().to_numpy(zero_copy_only=False).reshape(-1, 3, 3)
    pbc = batch["pbc"].flatten().to_numpy(zero_copy_only=False).reshape(-1, 3)
    return [
        Structure(*row)
        for row in zip(batch["id"].to_pylist(), numbers, positions, cells, pbc, strict=True)
    ]


def requests(
    source: BinaryIO, submit: Callable[[list[Structure]], Iterable[Any]]
) -> Iterator[Work | None]:
    """Reads ahead in a thread, so that the next graphs are built during a forward pass.

    The parent limits how far: it has a few requests in flight. None where the next has not come.
    """
    waiting: queue.SimpleQueue[Work | BaseException | None] = queue.SimpleQueue()

    def read() -> None:
        try:
            for batch in pa.ipc.open_stream(source):
                structures = structures_of(batch)
                waiting.put(Work(structures, submit(structures)))
            waiting.put(None)
        except BaseException as error:
            waiting.put(error)

    threading.Thread(target=read, daemon=True).start()
    while True:
        if waiting.empty():
            yield None
        work = waiting.get()
        if isinstance(work, BaseException):
            raise work
        if work is None:
            return
        yield work


def answer(embedder: Embedder, work: Work, schema: pa.Schema) -> tuple[pa.RecordBatch, bytes]:
    """The rows and the report for one request that was run."""
    found = [one for one in work.results if isinstance(one, EmbeddedStructure)]
    report = {
        "rejected": [one for one in work.results if not isinstance(one, EmbeddedStructure)],
        "batch_atoms": embedder.batch_atoms,
        "seconds_graph": work.seconds_graph,
        "seconds_forward": work.seconds_forward,
        "seconds_waiting": work.seconds_waiting,
    }
    return table(found, embedder, schema), json.dumps(report).encode()


def table(found: list[EmbeddedStructure], embedder: Embedder, schema: pa.Schema) -> pa.RecordBatch:
    """The answer: one row per atom."""
    sizes = [len(one.structure.numbers) for one in found]
    ids = pa.array([one.structure.id for one in found], pa.string())
    columns = [
        ids.take(pa.array(np.repeat(np.arange(len(found)), sizes))),
        pa.array([site for size in sizes for site in range(size)], pa.int32()),
    ]
    for layer in embedder.layers:
        dim = embedder.model.layers[layer]
        rows = [one.layers[layer].ravel() for one in found]
        values = np.concatenate(rows) if rows else np.empty(0, np.float32)
        columns.append(pa.FixedSizeListArray.from_arrays(pa.array(values, pa.float32()), dim))
    if "energy" in embedder.outputs:
        energies = np.array([one.energy for one in found], np.float64)
        columns.append(pa.array(np.repeat(energies, sizes), pa.float64()))
    if "forces" in embedder.outputs:
        forces = [one.forces.ravel() for one in found if one.forces is not None]
        values = np.concatenate(forces) if forces else np.empty(0, np.float32)
        columns.append(pa.FixedSizeListArray.from_arrays(pa.array(values, pa.float32()), 3))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def identity(card: dict[str, Any], model: Model, embedder: Embedder) -> dict[str, Any]:
    """The first message: which model this is, and what it runs on."""
    lists = versions(neighbours.PACKAGE) if on_device(model) else {}
    return {
        "protocol": PROTOCOL,
        "model": card["name"],
        "family": card["family"],
        "modality": card.get("modality"),
        "versions": dict(model.versions) | lists,
        "checkpoint_sha256": model.checkpoint_sha256,
        "former_sha256": former_sha256(model.checkpoint_sha256),
        "layers": [{"index": index, "dim": dim} for index, dim in sorted(model.layers.items())],
        "cutoff": model.cutoff,
        "dtype": "float32",
        "precision": precision(model.device),
        "device": model.device,
        "device_name": device_name(model.device),
        "elements": sorted(model.elements),
        "batch_atoms": embedder.batch_atoms,
        "outputs": list(embedder.outputs),
    }


def answer_schema(model: Model, layers: Iterable[int], outputs: Iterable[str] = ()) -> pa.Schema:
    """The columns of every answer. Raises ValueError for a layer or output that the model lacks."""
    fields = [pa.field("id", pa.string()), pa.field("site_index", pa.int32())]
    for layer in layers:
        if layer not in model.layers:
            raise ValueError(f"no layer {layer}: the model has {sorted(model.layers)}")
        fields.append(pa.field(f"layer_{layer}", pa.list_(pa.float32(), model.layers[layer])))
    for output in outputs:
        if output not in OUTPUTS or not hasattr(model, "predict"):
            raise ValueError(f"no output {output}: the model gives features alone")
        fields.append(OUTPUTS[output])
    return pa.schema(fields)


def serve(
    request: dict[str, Any], source: BinaryIO, sink: BinaryIO, model: Model | None = None
) -> None:
    """Loads the model, sends its identity, then answers requests until `source` ends."""
    card = request["card"]
    try:
        model = model or load(card, request["device"])
        precision(model.device)
        start = request["batch_atoms_before"].get(device_name(model.device))
        outputs = [output for output in OUTPUTS if output in request["outputs"]]
        embedder = Embedder(model, request["layers"], request["batch_atoms"], start, outputs)
        schema = answer_schema(model, embedder.layers, embedder.outputs)
    except Exception as error:
        with pa.ipc.new_stream(sink, pa.schema([], {"error": one_line(error)})):
            pass
        sink.flush()
        return
    make_graphs = graph_maker(card, model, request["graph_processes"])
    own = json.dumps(identity(card, model, embedder))
    with pa.ipc.new_stream(sink, schema.with_metadata({"identity": own})) as writer:
        writer.write_batch(table([], embedder, schema))  # so that Arrow sends the schema now
        sink.flush()
        for work in embedder.run(requests(source, make_graphs)):
            batch, report = answer(embedder, work, schema)
            writer.write_batch(batch, custom_metadata={"report": report})
            sink.flush()


def main(request: dict[str, Any], parent: int, model: Model | None = None) -> None:
    """A worker's life, in a process whose parent has this id, and maybe has loaded the model.

    It ends without Python's own shutdown, which aborts where the thread that reads holds a lock.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    die_with_parent(parent)
    source, sink = private_streams()
    code = 0
    try:
        serve(request, source, sink, model)
    except SystemExit as end:  # a model's package may call sys.exit
        code = end.code if isinstance(end.code, int) else 1
        if not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException:
        code = 1
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), os.getppid())
