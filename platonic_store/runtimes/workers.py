"""A pool of worker processes for one model, which survives the death of any of them."""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

import pyarrow as pa

from platonic_store import errors
from platonic_store.runtimes import batch_sizes
from platonic_store.runtimes.batching import rebatch
from platonic_store.runtimes.cards import Card
from platonic_store.runtimes.cores import usable_cores
from platonic_store.runtimes.environments import Environment
from platonic_store.runtimes.forkserver import Forkserver, gpu_possible, may_fork
from platonic_store.runtimes.interpreters import interpreter
from platonic_store.runtimes.process import (
    OUTPUTS,
    Embedded,
    NotForked,
    StartupError,
    Worker,
    WorkerDied,
)

__all__ = ["Embedded", "WorkerPool"]

REQUEST_ATOMS = 512  # at least: little is lost with a worker, and all workers end together
REQUESTS_IN_FLIGHT = 2  # on a GPU one more, whose results are on their way
START_ATTEMPTS = 3
# A worker hangs that takes longer for a request than this, and for each of its atoms than this, or
# than so many times what an atom took in the slowest request so far. Generous: the first passes
# compile, and a machine may be crowded.
HANG_SECONDS = 120.0
HANG_ATOM_SECONDS = 0.5
HANG_FACTOR = 50

logger = logging.getLogger(__name__)


@dataclass
class Request:
    """Structures to embed, and how many crashes they may still cause before they are halved."""

    structures: pa.RecordBatch
    attempts_left: int = 2
    is_alone: bool = False  # no other is in flight with it: it may have crashed a worker

    @property
    def atoms(self) -> int:
        """How many there are in all structures."""
        return len(self.structures["numbers"].flatten())

    def split_after_crash(self, *, hung: bool) -> list["Request"]:
        """The requests to send next, this one having crashed its worker; none: reject it.

        Maybe it has not: on a GPU the next one has begun before this one is answered. Alone it
        shows.

        One that hung is halved at once: to see it hang again takes long.
        """
        self.attempts_left -= 2 if hung and self.structures.num_rows > 1 else 1
        if self.attempts_left > 0:
            self.is_alone = True
            return [self]
        rows = self.structures.num_rows
        if rows == 1:
            return []
        halves = self.structures.slice(0, rows // 2), self.structures.slice(rows // 2)
        # One more crash halves a half again; only a single structure has two attempts.
        return [Request(half, 2 if half.num_rows == 1 else 1, is_alone=True) for half in halves]


class Answer(NamedTuple):
    """What a worker says, of how many structures, and whether it has nothing left to do."""

    embedded: Embedded
    structures: int
    is_idle: bool


class WorkerPool:
    """Workers that embed structures with one model.

    On a CPU one process of one thread for each usable core (or `workers` of them), forked from one
    that has imported the packages (`server`; it is closed with the pool); on a GPU one, with
    processes beside it that build graphs. A worker that dies, or hangs, is replaced and its
    requests are sent again; structures that do that twice are rejected. `batch_atoms` is the
    current number of atoms in a forward pass.

    They start at once, and `identity` and `embed` wait for it. Raises EnvironmentNotReady. Use as a
    context manager.
    """

    def __init__(
        self,
        card: Card,
        layers: tuple[int, ...],
        *,
        outputs: tuple[str, ...] = (),
        python: str | Path | None = None,
        device: str = "auto",
        batch_atoms: int | None = None,
        workers: int | None = None,
        server: Forkserver | None = None,
    ) -> None:
        self._card = card
        self._python = interpreter(card, python)
        self._layers, self._outputs = layers, outputs
        self._request = {
            "card": card.as_dict(),
            "layers": layers,
            "outputs": outputs,
            "device": device,
            "batch_atoms": batch_atoms,
            "batch_atoms_before": batch_sizes.load(card.name, layers, outputs),
            "graph_processes": None,
        }
        self._folder = TemporaryDirectory(prefix="platonic-store-", ignore_cleanup_errors=True)
        self._closed = threading.Event()
        self.batch_atoms = 0
        self._identity: dict[str, Any] | None = None
        self._slowest = 0.0  # seconds an atom, of the requests so far
        self._wanted = wanted = usable_cores() if workers is None else workers
        if server is None and wanted > 1 and may_fork(device):
            server = Forkserver(self._python, card)
        self._server, self._forks = server, server is not None
        self._todo: queue.Queue[Request] = queue.Queue(maxsize=max(1, wanted))
        self._done: queue.SimpleQueue[Answer | Exception] = queue.SimpleQueue()
        self._threads: list[_WorkerThread] = []
        self._start(1 if gpu_possible(device) else wanted)

    @property
    def ready(self) -> Future[dict[str, Any]]:
        """Is done when `identity` need not wait."""
        return self._threads[0].identity

    @property
    def identity(self) -> dict[str, Any]:
        """The first worker's first message: model, family, versions, checkpoint_sha256, layers,
        outputs, cutoff (Å), dtype, device, elements.

        Raises WorkerFailed if it cannot start; then the pool is closed.
        """
        if self._identity is None:
            self._identity = self._first_identity()
        return self._identity

    def _first_identity(self) -> dict[str, Any]:
        try:
            found = self.ready.result()
            self.batch_atoms = found["batch_atoms"]
            if found["device"] == "cpu":
                self._start(self._wanted)
        except BaseException:
            self.close()
            raise
        return found

    def embed(
        self, source: Iterable[pa.RecordBatch], when_idle: Callable[[], None] = lambda: None
    ) -> Iterator[Embedded]:
        """Embeds structures (columns id, numbers, positions, cell, pbc; others are ignored).

        Every structure is answered exactly once, as rows or as rejected; the order of the
        answers is not that of the source. Memory stays flat however many they are. What the
        workers have room for is sent at once. Leaving the iterator before its end closes the pool.
        when_idle: called at the end of the source, once a worker has nothing left to do.

        Raises WorkerFailed.
        """
        answers = self._answers(source, when_idle)
        next(answers)
        return (answer for answer in answers if answer is not None)

    def _answers(
        self, source: Iterable[pa.RecordBatch], when_idle: Callable[[], None]
    ) -> Iterator[Embedded | None]:
        """None once, when the workers have no more room, then the answers."""
        assert self.identity, "all workers are started"
        unanswered, is_full = 0, False
        try:
            for structures in rebatch(source, lambda: max(REQUEST_ATOMS, self.batch_atoms)):
                unanswered += structures.num_rows
                request = Request(structures)
                is_sent = self._accepts(request)
                while not is_sent or not self._done.empty():
                    if not is_full:
                        is_full = True
                        yield None
                    answer = self._result()
                    unanswered -= answer.structures
                    yield answer.embedded
                    is_sent = is_sent or self._accepts(request)
            if not is_full:
                yield None
            is_told = False
            while unanswered:
                answer = self._result()
                unanswered -= answer.structures
                if answer.is_idle and not is_told:
                    is_told = True
                    when_idle()
                yield answer.embedded
        finally:
            if unanswered:
                self.close()

    def close(self) -> None:
        """Ends all workers at once and waits until they are gone."""
        self._closed.set()
        for thread in self._threads:
            thread.stop()
        if self._server is not None:
            self._server.close()
        for thread in self._threads:
            thread.join()
        self._folder.cleanup()
        if self._request["batch_atoms"] is None and self._identity is not None:
            device = self._identity["device_name"]
            batch_sizes.save(self._card.name, self._layers, self._outputs, device, self.batch_atoms)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, count: int) -> None:
        while len(self._threads) < count:
            thread = _WorkerThread(self)
            self._threads.append(thread)
            thread.start()

    def _launch(self) -> Worker:
        """A new worker. Raises NotForked; then the next is not forked."""
        server = self._server if self._forks else None
        return Worker(self._python, self._request, self._folder.name, server)

    def _seconds_for(self, request: Request) -> float:
        """After which a worker that is busy with a request hangs."""
        of_atom = max(HANG_ATOM_SECONDS, HANG_FACTOR * self._slowest)
        return HANG_SECONDS + of_atom * request.atoms

    def _note_seconds(self, request: Request, seconds: float) -> None:
        self._slowest = max(self._slowest, seconds / max(REQUEST_ATOMS, request.atoms))

    def _accepts(self, request: Request) -> bool:
        try:
            self._todo.put_nowait(request)
        except queue.Full:
            return False
        return True

    def _result(self) -> Answer:
        result = self._done.get()
        if isinstance(result, Exception):
            raise result
        batch_atoms = result.embedded.batch_atoms or self.batch_atoms
        if batch_atoms != self.batch_atoms:
            change = f"{self.batch_atoms} to {batch_atoms} atoms"
            logger.info("%s: batch size changed from %s", self._card.name, change)
            self.batch_atoms = batch_atoms
        return result


class _WorkerThread(threading.Thread):
    """Feeds one worker, and starts another when it dies."""

    def __init__(self, pool: WorkerPool) -> None:
        super().__init__(daemon=True)
        self._pool = pool
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self.identity: Future[dict[str, Any]] = Future()

    def stop(self) -> None:
        """Makes the thread end, whatever it waits for. The pool must be marked closed before."""
        with self._lock:
            if self._worker:
                self._worker.kill()

    def run(self) -> None:
        """Serves requests until the pool is closed."""
        backlog: deque[Request] = deque()
        try:
            while not self._pool._closed.is_set():
                worker = self._begin()
                try:
                    self._feed(worker, backlog)
                except WorkerDied as death:
                    self._attribute_crash(backlog, death, hung=worker.is_hung)
                finally:
                    worker.close()
        except Exception as error:
            if not self.identity.done():
                self.identity.set_exception(error)
            self._pool._done.put(error)

    def _begin(self) -> Worker:
        """A worker that has loaded the model. Raises WorkerFailed."""
        name, attempt = self._pool._card.name, 0
        while attempt < START_ATTEMPTS:
            attempt += 1
            try:
                with self._lock:
                    if self._pool._closed.is_set():
                        raise errors.WorkerFailed(f"{name}: closed while a worker was starting")
                    worker = self._worker = self._pool._launch()
                identity = worker.handshake()
            except StartupError as reason:
                worker.close()
                raise errors.WorkerFailed(f"{name} cannot start: {reason}") from reason
            except NotForked as reason:
                logger.info("%s: workers are not forked (%s)", name, reason)
                self._pool._forks = False
                attempt -= 1
                continue
            except WorkerDied as death:
                worker.close()
                last = death
                if not self._pool._closed.is_set():
                    logger.warning("%s: worker died at start %d (%s)", name, attempt, death)
                continue
            logger.info("%s: worker %d started on %s", name, worker.pid, identity["device_name"])
            if not self.identity.done():
                self.identity.set_result(identity)
            return worker
        requires = ", ".join(Environment.of(self._pool._card).requires)
        raise errors.WorkerFailed(
            f"{name}'s worker died {START_ATTEMPTS} times while starting ({last})",
            f"check that {self._pool._python} has {requires} and pyarrow",
        ) from last

    def _feed(self, worker: Worker, backlog: deque[Request]) -> None:
        """Keeps the worker busy until the pool closes. `backlog`: requests not yet answered."""
        sent = 0
        most = REQUESTS_IN_FLIGHT + (self.identity.result()["device"] != "cpu")
        while not self._pool._closed.is_set():
            while sent < most and not (sent and backlog[0].is_alone):
                if sent == len(backlog):
                    request = self._next(wait=not backlog)
                    if request is None:
                        break
                    backlog.append(request)
                if sent and backlog[sent].is_alone:
                    break
                with worker.limited(self._pool._seconds_for(backlog[0])):
                    worker.send(backlog[sent].structures)
                sent += 1
            if sent:
                request, start = backlog[0], time.monotonic()
                with worker.limited(self._pool._seconds_for(request)):
                    answer = worker.receive(request.structures)
                self._pool._note_seconds(request, time.monotonic() - start)
                backlog.popleft()
                is_idle = not backlog and self._pool._todo.empty()
                self._pool._done.put(Answer(answer, request.structures.num_rows, is_idle))
                sent -= 1

    def _next(self, *, wait: bool) -> Request | None:
        """The next request, or None if there is none yet."""
        try:
            return self._pool._todo.get(block=wait, timeout=0.2)
        except queue.Empty:
            return None

    def _attribute_crash(self, backlog: deque[Request], death: WorkerDied, *, hung: bool) -> None:
        """Splits or rejects the oldest request: it was being answered when the worker died."""
        if self._pool._closed.is_set():
            return
        name = self._pool._card.name
        if not backlog:
            logger.warning("%s: idle worker died (%s)", name, death)
            return
        request = backlog.popleft()
        again = request.split_after_crash(hung=hung)
        backlog.extendleft(reversed(again))
        if not again:
            id_ = request.structures["id"][0].as_py()
            reason = f"killed its worker twice ({death})"
            logger.warning("%s: rejected %s: %s", name, id_, reason)
            answer = Embedded(self._no_rows(), [(id_, reason)], 0.0, 0.0, 0)
            self._pool._done.put(Answer(answer, 1, False))
            return
        todo = "splitting" if len(again) == 2 else "retrying"
        rows = request.structures.num_rows
        logger.warning("%s: worker died (%s); %s its request of %d", name, death, todo, rows)

    def _no_rows(self) -> pa.RecordBatch:
        """An answer's columns without rows."""
        dims = {layer["index"]: layer["dim"] for layer in self.identity.result()["layers"]}
        fields = [pa.field("id", pa.string()), pa.field("site_index", pa.int32())]
        for layer in self._pool._layers:
            fields.append(pa.field(f"layer_{layer}", pa.list_(pa.float32(), dims[layer])))
        fields += [OUTPUTS[output] for output in OUTPUTS if output in self._pool._outputs]
        return pa.RecordBatch.from_pylist([], schema=pa.schema(fields))
