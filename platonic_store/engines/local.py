"""The engine of one machine: a pool of worker processes, whose rows this process writes."""

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from platonic_store.engines import CHUNK_BYTES, CHUNK_SECONDS, Chunk, Lacking, TableOf
from platonic_store.engines.written import chunk_of
from platonic_store.errors import ConflictingStructure, UnreadableSource
from platonic_store.runtimes.forkserver import Forkserver
from platonic_store.runtimes.preparation import RunnableModel
from platonic_store.runtimes.process import Embedded
from platonic_store.runtimes.workers import WorkerPool
from platonic_store.storage import records
from platonic_store.storage.gaps import Wanted
from platonic_store.storage.interrupts import uninterrupted
from platonic_store.storage.writer import Writer


class LocalEngine:
    """See `Engine`."""

    def __init__(
        self,
        writer: Writer,
        model: RunnableModel,
        wanted: Wanted,
        *,
        device: str = "auto",
        batch_atoms: int | None = None,
        server: Forkserver | None = None,
    ):
        self._writer = writer
        self._pool = WorkerPool(
            model.card,
            tuple(wanted.layers),
            outputs=tuple(wanted.outputs),
            python=model.python,
            device=device,
            batch_atoms=batch_atoms,
            server=server,
        )
        self._begun: Iterator[Embedded] = iter(())

    @property
    def ready(self) -> Future[dict[str, Any]]:
        """Is done when `identity` need not wait."""
        return self._pool.ready

    @property
    def identity(self) -> dict[str, Any]:
        return self._pool.identity

    def __enter__(self) -> Self:
        self._pool.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.__exit__(kind, error, traceback)

    def begin(
        self, structures: Iterable[pa.RecordBatch], when_idle: Callable[[], None] = lambda: None
    ) -> None:
        """Send the first of some structures; `embed` goes on with them, then with its own."""
        self._begun = self._pool.embed(structures, when_idle)

    def embed(
        self,
        structures: Iterable[pa.RecordBatch],
        lacking: Lacking,
        table_of: TableOf,
        commit: Callable[[Chunk], None],
        advance: Callable[[float], None],
        when_idle: Callable[[], None] = lambda: None,
    ) -> None:
        answers: list[Embedded] = []
        since = time.monotonic()

        @uninterrupted()
        def hand_over() -> None:
            if answers:
                location = self._writer.location
                commit(chunk_of(answers, lacking, location, table_of, self._sites))
                answers.clear()

        try:
            for answer in self._answers(structures, when_idle):
                answers.append(answer)
                size = sum(part.table.nbytes for part in answers)
                if size > CHUNK_BYTES or time.monotonic() - since > CHUNK_SECONDS:
                    hand_over()
                    since = time.monotonic()
                advance(answer.table.num_rows + self._sites_of(answer.rejected))
        except (KeyboardInterrupt, UnreadableSource, ConflictingStructure):
            hand_over()
            raise
        hand_over()

    def _answers(
        self, structures: Iterable[pa.RecordBatch], when_idle: Callable[[], None]
    ) -> Iterator[Embedded]:
        yield from self._begun
        yield from self._pool.embed(structures, when_idle)

    def _sites(self, structure_ids: list[str]) -> pa.Table:
        return records.sites(self._writer, structure_ids)

    def _sites_of(self, rejected: list[tuple[str, str]]) -> int:
        return len(self._sites([id_ for id_, _ in rejected])) if rejected else 0
