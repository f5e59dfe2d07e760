"""Models that stay warm, each in a process of its own, for structures that are sent."""

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from platonic_store.arrow import vector_matrix
from platonic_store.errors import (
    EnvironmentNotReady,
    NotEmbedded,
    PlatonicError,
    ServiceBusy,
    UnreadableSource,
    WeightsNotFound,
    WorkerFailed,
)
from platonic_store.questions.shared.running import pool_of
from platonic_store.runtimes.workers import WorkerPool
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import Snapshot

BATCH: Final = 32  # structures that are embedded together
WAITING: Final = 128  # structures that wait for a model

logger = logging.getLogger(__name__)

Layers = Mapping[int, np.ndarray]  # layer → (atoms, dim) float32


class Job(NamedTuple):
    """A structure to embed (one row), and its answer."""

    structure: pa.RecordBatch
    answer: "Future[Layers]"


class Model:
    """A model that embeds what is sent, in batches; it starts when it is first needed."""

    def __init__(self, name: str, snapshot: Callable[[], Snapshot], *, may_install: bool):
        self.name = name
        self._snapshot, self._may_install = snapshot, may_install
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._pool: WorkerPool | None = None
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, name=f"model {name}", daemon=True)
        self._thread.start()

    def embed(self, structure: pa.RecordBatch) -> "Future[Layers]":
        """All layers that the store has of the model, for a structure (one row).

        The future raises UnreadableSource for a structure that the model rejects, and what running
        a model raises. Raises: ServiceBusy.
        """
        if self._jobs.qsize() >= WAITING:
            raise ServiceBusy(f"{self.name} has as much to embed as it can", "try again later")
        job = Job(structure, Future())
        self._jobs.put(job)
        return job.answer

    def warm_up(self) -> None:
        """Start the model's process before it is needed."""
        self._jobs.put(Job(pa.record_batch({}), Future()))

    def close(self) -> None:
        """End the model's process."""
        with self._lock:
            self._is_closed = True
            pool = self._pool
        self._jobs.put(None)
        if pool is not None:
            pool.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            jobs = [job]
            while len(jobs) < BATCH and not self._jobs.empty():
                following = self._jobs.get()
                if following is None:
                    return
                jobs.append(following)
            self._answer([job for job in jobs if job.answer.set_running_or_notify_cancel()])

    def _answer(self, jobs: list[Job]) -> None:
        try:
            pool = self._running()
            by_id = {job.structure["id"][0].as_py(): job for job in jobs if job.structure.num_rows}
            if by_id:
                _embed(pool, by_id)
        except PlatonicError as error:
            logger.warning("%s: %s", self.name, error)
            self._fail(jobs, error)
        except Exception as error:
            logger.exception("%s", self.name)
            self._fail(jobs, WorkerFailed(f"{self.name} failed ({type(error).__name__})"))

    def _fail(self, jobs: list[Job], error: PlatonicError) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()  # the next job starts another
        for job in jobs:
            if not job.answer.done():
                job.answer.set_exception(error)

    def _running(self) -> WorkerPool:
        """The pool, which starts now if there is none. Raises: what running a model raises."""
        if self._pool is None:
            pool = _start(self._snapshot(), self.name, self._may_install)
            with self._lock:
                if not self._is_closed:
                    self._pool = pool
            if self._pool is None:
                pool.close()
                raise WorkerFailed("the service is ending")
        return self._pool


def _embed(pool: WorkerPool, jobs: Mapping[str, Job]) -> None:
    names = ["id", "numbers", "positions", "cell", "pbc"]
    for embedded in pool.embed([job.structure.select(names) for job in jobs.values()]):
        for id, reason in embedded.rejected:
            jobs[id].answer.set_exception(UnreadableSource(f"the model rejects it: {reason}"))
        ids = np.array(embedded.table["id"].to_pylist(), dtype=object)
        columns = [name for name in embedded.table.schema.names if name.startswith("layer_")]
        vectors = {
            int(name.removeprefix("layer_")): vector_matrix(embedded.table[name])
            for name in columns
        }
        for id in dict.fromkeys(ids):
            layers = {layer: rows[ids == id] for layer, rows in vectors.items()}
            jobs[id].answer.set_result(layers)


def _start(snapshot: Snapshot, name: str, may_install: bool) -> WorkerPool:
    """The model of a store as it is there: the same weights, the layers that are stored.

    Raises: what running a model raises; CheckpointMismatch.
    """
    if not may_install:
        require_ready(name)
    tables = (table for table in snapshot.tables if table.model == name and table.space is None)
    layers = tuple(sorted({table.layer for table in tables}))
    return pool_of(snapshot, name, layers, workers=1)


def require_ready(name: str) -> None:
    """Raises: what says why a model cannot run here without a download or an installation."""
    from platonic_store.runtimes import checkpoints, environments
    from platonic_store.runtimes.cards import resolve

    card = resolve(name)
    environment = environments.Environment.of(card)
    if not environment.is_satisfied_here() and not environment.is_installed():
        raise EnvironmentNotReady(
            f"{name} needs an environment, which is not made here",
            f"start the service with `--models {name}`",
        )
    if checkpoints.requires_download(card) and checkpoints.find_local(card) is None:
        raise WeightsNotFound(
            f"the weights of {name} are not here", f"start the service with `--models {name}`"
        )


class Models:
    """The models of a service by name, and why others are none of them."""

    def __init__(self, snapshot: Callable[[], Snapshot], named: tuple[str, ...] | None):
        """named: those to run; None for the store's trained ones that are ready here.

        Raises: ModelNotFound for a named one of which the store has nothing.
        """
        self.reasons: dict[str, str] = {}
        self._models: dict[str, Model] = {}
        newest = snapshot()
        for name in newest.trained_models if named is None else named:
            found = lookup.model(newest, name)
            try:
                if named is None:
                    require_ready(found)
            except PlatonicError as error:
                self.reasons[found] = str(error)
                continue
            self._models[found] = Model(found, snapshot, may_install=named is not None)
        self._are_named = named is not None

    def start(self) -> None:
        """Start those that were named; the others start when they are first needed."""
        if self._are_named:
            for model in self._models.values():
                model.warm_up()

    @property
    def names(self) -> list[str]:
        """The models that run here."""
        return list(self._models)

    def embed(self, name: str, structure: pa.RecordBatch) -> "Future[Layers]":
        """Raises: NotEmbedded if the model does not run here; ServiceBusy."""
        if name not in self._models:
            why = self.reasons.get(name, "the service was started without it")
            raise NotEmbedded(
                f"{name} embeds nothing here: {why}", f"start the service with `--models {name}`"
            )
        return self._models[name].embed(structure)

    def close(self) -> None:
        """End the models' processes."""
        for model in self._models.values():
            model.close()
