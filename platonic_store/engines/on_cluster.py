"""The engine of a cluster: this process cuts and commits, actors on the nodes embed and write.

Of what goes through this process, structures and predictions are the most. The pieces of an actor
that died are sent again, each alone to an actor, so that it is known of which it dies. A chunk is
committed once, and what else was written of it is named by no manifest.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import pyarrow as pa

from platonic_store import resources
from platonic_store.engines import CHUNK_BYTES, CHUNK_SECONDS, Chunk, Lacking, TableOf
from platonic_store.engines.cluster import Cluster
from platonic_store.engines.cutting import Piece, halves, pieces
from platonic_store.engines.node import Assignment, unexpected
from platonic_store.engines.supervision import PIECES_IN_FLIGHT, Actor, Actors, Sent, plain, short
from platonic_store.errors import (
    ConflictingStructure,
    PlatonicError,
    StoreUnreachable,
    UnreadableSource,
    WorkerFailed,
)
from platonic_store.runtimes.preparation import ModelElsewhere
from platonic_store.runtimes.workers import REQUEST_ATOMS
from platonic_store.storage.gaps import Wanted
from platonic_store.storage.layout import Level
from platonic_store.storage.writer import Writer

if TYPE_CHECKING:
    from ray import ObjectRef

_log = logging.getLogger(__name__)

FIRST_EDGES = 100_000.0
ATTEMPTS: Final = 3


class ClusterEngine:
    """See `Engine`."""

    identity: dict[str, Any]

    def __init__(
        self,
        writer: Writer,
        model: ModelElsewhere,
        wanted: Wanted,
        cluster: Cluster,
        *,
        device: str = "auto",
        batch_atoms: int | None = None,
    ):
        """Raises: as `Actors`."""
        self._card, self._cluster = model.card, cluster
        assignment = Assignment(
            model.card,
            str(resources.folder("ingest") / "families"),
            _everywhere(model.python),
            tuple(wanted.layers),
            tuple(wanted.outputs),
            device,
            batch_atoms,
            cluster.num_cpus,
            writer.location,
            writer.witness,
        )
        self._edges_per_second: float | None = None
        self._actors = Actors(assignment, cluster)
        self.identity = self._actors.identity

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._actors.close()

    def embed(
        self,
        structures: Iterable[pa.RecordBatch],
        lacking: Lacking,
        table_of: TableOf,
        commit: Callable[[Chunk], None],
        advance: Callable[[float], None],
        when_idle: Callable[[], None] = lambda: None,
    ) -> None:
        cut = pieces(structures, self._card.cutoff, lambda: self._request_atoms, self._most)
        todo: deque[Sent] = deque()
        tables = self._tables(lacking, table_of)

        def hand_over(chunk: Chunk, piece: Piece) -> None:
            commit(chunk)
            advance(piece.sites)

        try:
            while True:
                self._actors.start_missing()
                self._give(todo, cut, lacking, tables)
                if not todo and not any(actor.pieces for actor in self._actors):
                    return
                for actor, ref in self._actors.ready(timeout=0.5):
                    self._receive(actor, ref, todo, hand_over)
        except (KeyboardInterrupt, UnreadableSource, ConflictingStructure):
            for actor, ref in self._actors.ready(timeout=0):
                self._receive(actor, ref, todo, hand_over)
            raise

    @property
    def _request_atoms(self) -> int:
        return max(REQUEST_ATOMS, self.identity["batch_atoms"] or 0)

    def _most(self) -> tuple[float, int]:
        """Edges and atoms of the next piece."""
        numbers = sum(layer["dim"] for layer in self.identity["layers"])
        atoms = CHUNK_BYTES // (4 * max(1, numbers))
        if self._edges_per_second is None:
            return FIRST_EDGES * self._cluster.num_cpus, atoms
        return self._edges_per_second * CHUNK_SECONDS, atoms

    def _tables(self, lacking: Lacking, table_of: TableOf) -> dict[tuple[int, Level], str]:
        dims = {layer["index"]: layer["dim"] for layer in self.identity["layers"]}
        levels: tuple[Level, Level] = ("atom", "structure")
        return {
            (layer, level): table_of(layer, level, dims[layer])
            for layer in lacking.layers
            for level in levels
        }

    def _give(
        self,
        todo: deque[Sent],
        cut: Iterator[Piece],
        lacking: Lacking,
        tables: dict[tuple[int, Level], str],
    ) -> None:
        """Send pieces to the actors that have room: the least busy first."""
        for count in range(PIECES_IN_FLIGHT):
            for actor in self._actors:
                if not actor.has_room(count):
                    continue
                if not todo:
                    piece = next(cut, None)
                    if piece is None:
                        return
                    todo.append(Sent(piece))
                if todo[0].alone and actor.pieces:
                    continue
                sent = todo.popleft()._replace(since=time.monotonic())
                ref: ObjectRef[Chunk] = actor.handle.embed.remote(sent.piece, lacking, tables)
                actor.pieces[ref] = sent

    def _receive(
        self,
        actor: Actor,
        ref: "ObjectRef[Chunk]",
        todo: deque[Sent],
        hand_over: Callable[[Chunk, Piece], None],
    ) -> None:
        import ray
        from ray.exceptions import RayError, RayTaskError

        sent = actor.pieces.pop(ref)
        try:
            chunk = ray.get(ref)
        except RayTaskError as error:
            self._retry(actor, sent, plain(error), todo)
            return
        except RayError as error:
            self._actors.lose(actor, short(error))
            if not sent.alone:
                todo.appendleft(sent._replace(alone=True))
                return
            again = _after_death(sent)
            todo.extendleft(reversed(again))
            if not again:
                id_ = sent.piece.ids[0]
                reason = f"killed its actor {ATTEMPTS - 1} times ({short(error)})"
                hand_over(Chunk([], 0, [(id_, reason)], None, {}, 0.0, 0.0), sent.piece)
            return
        if (fault := unexpected(chunk, sent.piece)) is not None:
            raise WorkerFailed(f"node {actor.node.host} answered something else: {fault}")
        self._learn(sent)
        hand_over(chunk, sent.piece)

    def _retry(self, actor: Actor, sent: Sent, failure: PlatonicError, todo: deque[Sent]) -> None:
        """Have a piece done again, elsewhere if it can be. Raises: the failure, after a while."""
        failures = sent.failures + 1
        if failures >= ATTEMPTS or not isinstance(failure, WorkerFailed | StoreUnreachable):
            raise failure
        _log.warning("%s: a piece failed on %s: %s", self._card.name, actor.node.host, failure)
        todo.append(sent._replace(failures=failures))
        if isinstance(failure, WorkerFailed):  # its pool is closed
            self._actors.lose(actor, str(failure))

    def _learn(self, sent: Sent) -> None:
        """How many edges an actor embeds in a second, smoothed."""
        seconds = max(1e-3, time.monotonic() - sent.since) / PIECES_IN_FLIGHT
        seen = sent.piece.edges / seconds
        known = self._edges_per_second
        self._edges_per_second = seen if known is None else (known + seen) / 2


def _everywhere(python: Path | None) -> Path | None:
    """An interpreter that was named beside this process, as one that actors find."""
    is_path = python is not None and len(python.parts) > 1
    return python.absolute() if python and is_path else python


def _after_death(sent: Sent) -> list[Sent]:
    """The pieces to send next, this one having killed its actor by itself; none: reject it."""
    deaths = sent.deaths + 1
    if deaths < ATTEMPTS - 1:
        return [sent._replace(deaths=deaths)]
    if len(sent.piece.ids) == 1:
        return []
    # One more death halves a half again; only a single structure has two attempts.
    return [Sent(half, alone=True, deaths=int(len(half.ids) > 1)) for half in halves(sent.piece)]
