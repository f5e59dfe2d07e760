"""A family without a model, which misbehaves at structures whose id says how."""

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np

ANSWER = np.array([1.0, 2.0, 3.0], dtype=np.float32)


GPU_ATOMS = 5000
if "threads" in os.environ.get("FAKE_FAMILY", ""):
    threading.Thread(target=time.sleep, args=[1e6], daemon=True).start()


class Fake:
    checkpoint_sha256 = "0" * 64
    versions = {"python": "3"}  # noqa: RUF012
    cutoff = 5.0
    elements = frozenset(range(1, 95))
    layers = {0: 3, 1: 3}  # noqa: RUF012

    def __init__(self, card, device):
        self.device = "cpu"
        self.loader = card["loader"]
        print("a library that prints on stdout")
        if self.loader == "never":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.loader.endswith("gpu"):
            self.device = "cuda"
            pretend_gpu(self)
        # A tensor that the checkpoint does not fill is as it was drawn.
        self.left_as_drawn = np.float32(np.random.rand() if self.loader == "in part" else 0)  # noqa: NPY002
        if self.loader == "refuses":
            raise FileNotFoundError("weights.pt is\nnot here")

    @property
    def graph(self):
        return graph

    def embed(self, graphs, layers):
        atoms = sum(len(numbers) for _, numbers in graphs)
        if self.loader == "small memory" and atoms > 10:
            raise MemoryError
        if self.loader.endswith("gpu"):
            self.largest = max(self.largest, atoms)
            if atoms > GPU_ATOMS:
                raise MemoryError
        if self.loader == "slow":
            time.sleep(0.01 * len(graphs))
        for name, _ in graphs:
            misbehave(name)
        numbers = np.concatenate([numbers for _, numbers in graphs]).astype(np.float32)
        answer = ANSWER + self.left_as_drawn
        found = {layer: (layer + 1) * numbers[:, None] * answer for layer in layers}
        return arriving_late(found) if self.loader == "late gpu" else found


def pretend_gpu(model):
    """A GPU that holds GPU_ATOMS atoms."""
    from ingest import embedder, worker

    model.largest = 0
    embedder.automatic_batch_atoms = lambda device: 100
    embedder.memory_used = lambda device: model.largest / GPU_ATOMS
    worker.device_name = sys.modules["__main__"].device_name = lambda device: "Pretended GPU"


def arriving_late(found):
    """As a GPU gives arrays: they are filled when they are waited for."""
    from ingest import transfer

    given = {layer: np.full_like(rows, np.nan) for layer, rows in found.items()}

    def fill():
        for layer, rows in found.items():
            given[layer][:] = rows

    transfer._open.get().events.append(SimpleNamespace(synchronize=fill))
    return given


def graph(structure):
    if structure.id == "no graph":
        raise ValueError("two atoms\nat one place")
    return structure.id, structure.numbers


def misbehave(name):
    print("a library that prints on stdout")
    if name == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "hangs":
        time.sleep(1e6)
    if name == "exits":
        raise SystemExit("gave up")
    if name == "raises":
        raise ValueError("cannot embed this")
    if name == "garbage":
        for link in Path("/proc/self/fd").iterdir():
            if int(link.name) > 2 and str(link.readlink()).startswith("pipe:"):
                with suppress(OSError):
                    os.write(int(link.name), b"garbage ")


load = Fake
