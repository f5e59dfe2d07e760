"""A pool of workers for one model: structures in, embeddings out, whatever befalls a worker."""

import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from platonic_store import errors
from platonic_store.runtimes import batches
from platonic_store.runtimes.batching import recut
from platonic_store.runtimes.cards import Card
from platonic_store.runtimes.cores import usable_cores
from platonic_store.runtimes.environments import Environment, interpreter
from platonic_store.runtimes.process import Died, Embedded, Refused, Worker

__all__ = ["Embedded", "WorkerPool"]

REQUEST_ATOMS = 512  # at least: little is lost with a worker, and all workers end together
IN_FLIGHT = 2
STARTS = 3


@dataclass
class Request:
    """Structures to embed, and how many deaths they may still cause before they are halved."""

    structures: pa.RecordBatch
    lives: int = 2

    def after_a_death(self) -> list["Request"]:
        """What to ask for next, this request having killed its worker; nothing: give it up."""
        self.lives -= 1
        if self.lives:
            return [self]
        rows = self.structures.num_rows
        if rows == 1:
            return []
        halves = self.structures.slice(0, rows // 2), self.structures.slice(rows // 2)
        # Under suspicion already: one more death halves them again, only the last gets two.
        return [Request(half, lives=2 if half.num_rows == 1 else 1) for half in halves]


class WorkerPool:
    """Workers that embed structures with one model.

    On a CPU one process of one thread for each usable core (or `workers` of them), on a GPU one,
    with processes beside it that build graphs. A worker that dies is replaced and its requests
    are asked again; structures that kill their worker twice are rejected. `identity` is the first
    worker's first message: model, family, versions, checkpoint_sha256, layers, cutoff (Å), dtype,
    device, elements. `batch_atoms` is how many atoms a forward takes now.

    Raises EnvironmentNotReady, or WorkerFailed if a worker cannot start. Use as a context manager.
    """

    identity: dict[str, Any]

    def __init__(
        self,
        card: Card,
        layers: tuple[int, ...],
        *,
        python: str | Path | None = None,
        device: str = "auto",
        batch_atoms: int | None = None,
        workers: int | None = None,
    ) -> None:
        self._card = card
        self._python = interpreter(card, python)
        self._layers = layers
        self._request = {
            "card": card.as_dict(),
            "layers": layers,
            "device": device,
            "batch_atoms": batch_atoms,
            "batch_atoms_before": batches.recall(card.name, layers),
            "graph_processes": None,
        }
        self._folder = TemporaryDirectory(prefix="platonic-store-", ignore_cleanup_errors=True)
        self._closed = threading.Event()
        self.batch_atoms = 0
        wanted = usable_cores() if workers is None else workers
        self._todo: queue.Queue[Request] = queue.Queue(maxsize=max(1, wanted))
        self._done: queue.SimpleQueue[tuple[Embedded, int] | Exception] = queue.SimpleQueue()
        self._lanes: list[_Lane] = []
        try:
            self._start(1 if _gpu_possible(device) else wanted)
            self.identity = self._lanes[0].identity.result()
            self.batch_atoms = self.identity["batch_atoms"]
            if self.identity["device"] == "cpu":
                self._start(wanted)
        except BaseException:
            self.close()
            raise

    def embed(self, source: Iterable[pa.RecordBatch]) -> Iterator[Embedded]:
        """Embeds structures (columns id, numbers, positions, cell, pbc; others are ignored).

        Every structure is answered exactly once, as rows or as rejected; the order of the
        answers is not that of the source. Memory stays flat however many they are. Leaving the
        iterator before its end closes the pool. Raises WorkerFailed.
        """
        unanswered = 0
        try:
            for structures in recut(source, lambda: max(REQUEST_ATOMS, self.batch_atoms)):
                unanswered += structures.num_rows
                request = Request(structures)
                while not self._accepts(request):
                    answer, structures_answered = self._result()
                    unanswered -= structures_answered
                    yield answer
            while unanswered:
                answer, structures_answered = self._result()
                unanswered -= structures_answered
                yield answer
        finally:
            if unanswered:
                self.close()

    def close(self) -> None:
        """Ends all workers at once and waits until they are gone."""
        self._closed.set()
        for lane in self._lanes:
            lane.stop()
        for lane in self._lanes:
            lane.join()
        self._folder.cleanup()
        if self._request["batch_atoms"] is None and self.batch_atoms:
            device = self.identity["device_name"]
            batches.remember(self._card.name, self._layers, device, self.batch_atoms)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self, lanes: int) -> None:
        while len(self._lanes) < lanes:
            lane = _Lane(self)
            self._lanes.append(lane)
            lane.start()

    def _accepts(self, request: Request) -> bool:
        try:
            self._todo.put_nowait(request)
        except queue.Full:
            return False
        return True

    def _result(self) -> tuple[Embedded, int]:
        """An answer, and the number of structures that it answers for."""
        result = self._done.get()
        if isinstance(result, Exception):
            raise result
        self.batch_atoms = result[0].batch_atoms or self.batch_atoms
        return result


class _Lane(threading.Thread):
    """A worker, its successors, and the thread that feeds them."""

    def __init__(self, pool: WorkerPool) -> None:
        super().__init__(daemon=True)
        self._pool = pool
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self.identity: Future[dict[str, Any]] = Future()

    def stop(self) -> None:
        """Makes the thread end, whatever it waits for; the pool is marked closed already."""
        with self._lock:
            if self._worker:
                self._worker.kill()

    def run(self) -> None:
        backlog: deque[Request] = deque()
        try:
            while not self._pool._closed.is_set():
                worker = self._begin()
                try:
                    self._feed(worker, backlog)
                except Died as death:
                    self._blame(backlog, death)
                finally:
                    worker.close()
        except Exception as error:
            if not self.identity.done():
                self.identity.set_exception(error)
            self._pool._done.put(error)

    def _begin(self) -> Worker:
        """A worker that has said who it is. Raises WorkerFailed."""
        name = self._pool._card.name
        for attempt in range(1, STARTS + 1):
            with self._lock:
                if self._pool._closed.is_set():
                    raise errors.WorkerFailed(f"{name}: closed while a worker was starting")
                worker = Worker(self._pool._python, self._pool._request, self._pool._folder.name)
                self._worker = worker
            try:
                identity = worker.hello()
            except (Died, Refused) as reason:
                worker.close()
                if isinstance(reason, Refused):
                    raise errors.WorkerFailed(f"{name} cannot start: {reason}") from reason
                if attempt == STARTS:
                    requires = ", ".join(Environment.of(self._pool._card).requires)
                    text = (
                        f"{name}'s worker died {STARTS} times while starting ({reason}); its "
                        f"interpreter needs {requires} and pyarrow"
                    )
                    raise errors.WorkerFailed(text) from reason
                continue
            if not self.identity.done():
                self.identity.set_result(identity)
            return worker
        raise AssertionError

    def _feed(self, worker: Worker, backlog: deque[Request]) -> None:
        """Keeps the worker busy until the pool closes. `backlog` is what it still owes."""
        sent = 0
        while not self._pool._closed.is_set():
            while sent < IN_FLIGHT:
                if sent == len(backlog):
                    request = self._next(wait=not backlog)
                    if request is None:
                        break
                    backlog.append(request)
                worker.send(backlog[sent].structures)
                sent += 1
            if sent:
                answer = worker.receive(backlog[0].structures)
                self._pool._done.put((answer, backlog.popleft().structures.num_rows))
                sent -= 1

    def _next(self, *, wait: bool) -> Request | None:
        """The next request, if there is one; looks up now and then whether the pool is closed."""
        try:
            return self._pool._todo.get(block=wait, timeout=0.2)
        except queue.Empty:
            return None

    def _blame(self, backlog: deque[Request], death: Died) -> None:
        """The oldest request was being answered when the worker died."""
        if not backlog or self._pool._closed.is_set():
            return
        request = backlog.popleft()
        again = request.after_a_death()
        backlog.extendleft(reversed(again))
        if not again:
            name = request.structures["id"][0].as_py()
            reason = f"killed its worker twice ({death})"
            answer = Embedded(self._no_rows(), [(name, reason)], 0.0, 0.0, 0)
            self._pool._done.put((answer, 1))

    def _no_rows(self) -> pa.RecordBatch:
        """An answer's columns without rows."""
        dims = {layer["index"]: layer["dim"] for layer in self.identity.result()["layers"]}
        fields = [pa.field("id", pa.string()), pa.field("site_index", pa.int32())]
        for layer in self._pool._layers:
            fields.append(pa.field(f"layer_{layer}", pa.list_(pa.float32(), dims[layer])))
        return pa.RecordBatch.from_pylist([], schema=pa.schema(fields))


def _gpu_possible(device: str) -> bool:
    """False if the workers will surely be on the CPU. The parent has no torch to ask."""
    if device != "auto":
        return device != "cpu"
    return any(Path(node).exists() for node in ("/dev/nvidia0", "/dev/dxg", "/dev/kfd"))
