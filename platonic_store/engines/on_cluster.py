"""The engine of a cluster: this process cuts and commits, actors on the nodes embed and write.

Of what goes through this process, structures and predictions are the most. An actor that dies, or
whose node does, is replaced where there is room, and its pieces are sent again, each alone to an
actor, so that it is known of which it dies. A chunk is committed once, and what else was written of
it is named by no manifest.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import pyarrow as pa

from platonic_store import progress, resources
from platonic_store.engines import CHUNK_BYTES, CHUNK_SECONDS, Chunk, Lacking, TableOf
from platonic_store.engines.cluster import Cluster, Node, Nodes
from platonic_store.engines.cutting import Piece, halves, pieces
from platonic_store.engines.node import Assignment, Embedder, unexpected
from platonic_store.errors import (
    CheckpointMismatch,
    ClusterNotReady,
    PlatonicError,
    StoreUnreachable,
    WorkerFailed,
)
from platonic_store.runtimes.preparation import ModelElsewhere
from platonic_store.runtimes.workers import REQUEST_ATOMS
from platonic_store.storage.layout import Level
from platonic_store.storage.records import Wanted
from platonic_store.storage.writer import Writer

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

_log = logging.getLogger(__name__)

FIRST_EDGES = 100_000.0
PIECES_IN_FLIGHT: Final = 2
ATTEMPTS: Final = 3
STARTS: Final = 5  # of a node, in a row
# How often the cluster is asked for its nodes, and how long it may have none that works.
LOOK_SECONDS: Final = 2.0
PATIENCE = 60.0


@dataclass(eq=False)
class _Hand:
    """An actor on a node, and what it was given."""

    actor: "ActorHandle[Embedder]"
    node: Node
    pieces: "dict[ObjectRef[Chunk], _Sent]" = field(default_factory=dict)
    is_lost: bool = False

    def has_room(self, count: int) -> bool:
        """Whether it has at most `count` pieces, none of which is to be alone."""
        alone = any(sent.alone for sent in self.pieces.values())
        return not self.is_lost and not alone and len(self.pieces) <= count


class _Sent(NamedTuple):
    """A piece, with how often its actor died of it and how often the store was out of reach.

    alone: an actor has died that had it and perhaps others.
    """

    piece: Piece
    alone: bool = False
    deaths: int = 0
    failures: int = 0
    since: float = 0.0


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
        """Raises: ClusterNotReady, and what `Embedder.start` raises where no node can work."""
        self._model, self._cluster, self._wanted = model.card.name, cluster, wanted
        self._cutoff = model.card.cutoff
        self._assignment = Assignment(
            model.card,
            str(resources.folder("ingest") / "families"),
            model.python,
            tuple(wanted.layers),
            tuple(wanted.outputs),
            device,
            batch_atoms,
            cluster.num_cpus,
            writer.location,
            writer.witness,
        )
        self._hands: list[_Hand] = []
        self._starting: dict[ObjectRef[dict[str, Any]], _Hand] = {}
        self._looked = -LOOK_SECONDS
        self._edges_per_second: float | None = None
        self._failure: PlatonicError | None = None
        self._nodes = Nodes(cluster)
        self._stillborn: Counter[str] = Counter()
        self._busy_at = time.monotonic()
        try:
            self.identity = self._first_identity()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for hand in [*self._hands, *self._starting.values()]:
            _kill(hand)

    def embed(
        self,
        structures: Iterable[pa.RecordBatch],
        lacking: Lacking,
        table_of: TableOf,
        commit: Callable[[Chunk], None],
        advance: Callable[[float], None],
    ) -> None:
        cut = pieces(structures, self._cutoff, lambda: self._request_atoms, self._most)
        todo: deque[_Sent] = deque()
        tables = self._tables(lacking, table_of)

        def hand_over(chunk: Chunk, piece: Piece) -> None:
            commit(chunk)
            advance(piece.sites)

        try:
            while True:
                self._hire()
                self._give(todo, cut, lacking, tables)
                if not todo and not any(hand.pieces for hand in self._hands):
                    return
                for hand, ref in self._ready(timeout=0.5):
                    self._receive(hand, ref, todo, hand_over)
        except KeyboardInterrupt:
            for hand, ref in self._ready(timeout=0):
                self._receive(hand, ref, todo, hand_over)
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

    def _first_identity(self) -> dict[str, Any]:
        """Of the first actor that is ready; the others go on getting ready."""
        started, is_told = time.monotonic(), False
        while True:
            self._hire()
            for identity in self._started(timeout=0.5):
                return identity
            if self._failure is not None and not self._starting and not self._nodes.is_asking:
                raise self._failure
            self._require_hands()
            if not is_told and time.monotonic() - started > 10:
                progress.say(f"waiting for the cluster to load {self._model}")
                is_told = True

    def _require_hands(self) -> None:
        """Raises: what a node said, or ClusterNotReady, after a while without any actor."""
        if self._hands or self._starting or self._nodes.is_asking:
            self._busy_at = time.monotonic()
        if time.monotonic() - self._busy_at <= PATIENCE:
            return
        if self._failure is not None:
            raise self._failure
        if self._nodes.refusals:
            raise ClusterNotReady(
                f"no node of the cluster can run {self._model}: {'; '.join(self._nodes.refusals)}",
                "install the same versions on all nodes",
            )
        wanted = f"{self._cluster.num_cpus} CPUs and {self._cluster.num_gpus:g} GPUs"
        raise ClusterNotReady(
            f"no node of the cluster has {wanted} for one actor", "ask for less, or add nodes"
        )

    def _hire(self) -> None:
        """Put actors where there is room for them."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        held = [hand.node.id for hand in [*self._hands, *self._starting.values()]]
        for node in self._nodes.usable():
            for _ in range(node.room - held.count(node.id)):
                actor = _actor(self._assignment, node, self._cluster)
                self._starting[actor.start.remote()] = _Hand(actor, node)
                _log.info("%s: an actor starts on node %s", self._model, node.host)

    def _started(self, timeout: float) -> Iterator[dict[str, Any]]:
        """The identities of actors that have got ready; those that cannot are left out."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        if not self._starting:
            time.sleep(timeout)
            return
        for ref in ray.wait([*self._starting], timeout=timeout)[0]:
            hand = self._starting.pop(ref)
            try:
                identity = ray.get(ref)
            except RayTaskError as error:
                self._failure = _plain(error)
                _kill(hand)
                self._nodes.avoid(hand.node, str(self._failure))
                continue
            except RayError as error:
                _log.warning("an actor on %s died at its start: %s", hand.node.host, _short(error))
                _kill(hand)
                self._stillborn[hand.node.id] += 1
                if self._stillborn[hand.node.id] == STARTS:
                    self._nodes.avoid(hand.node, f"{STARTS} actors died at their start")
                continue
            self._stillborn[hand.node.id] = 0
            self._require_same(identity, hand)
            self._hands.append(hand)
            yield identity

    def _require_same(self, identity: dict[str, Any], hand: _Hand) -> None:
        known = getattr(self, "identity", identity)
        for name in ("checkpoint_sha256", "layers", "dtype", "versions"):
            if identity[name] != known[name]:
                raise CheckpointMismatch(
                    f"node {hand.node.host} has another {name} of {self._model}: "
                    f"{identity[name]} and {known[name]}",
                    "install the same packages and weights on all nodes",
                )

    def _give(
        self,
        todo: deque[_Sent],
        cut: Iterator[Piece],
        lacking: Lacking,
        tables: dict[tuple[int, Level], str],
    ) -> None:
        """Send pieces to the actors that have room: the least busy first."""
        for count in range(PIECES_IN_FLIGHT):
            for hand in self._hands:
                if not hand.has_room(count):
                    continue
                if not todo:
                    piece = next(cut, None)
                    if piece is None:
                        return
                    todo.append(_Sent(piece))
                if todo[0].alone and hand.pieces:
                    continue
                sent = todo.popleft()._replace(since=time.monotonic())
                ref: ObjectRef[Chunk] = hand.actor.embed.remote(sent.piece, lacking, tables)
                hand.pieces[ref] = sent

    def _ready(self, timeout: float) -> "list[tuple[_Hand, ObjectRef[Chunk]]]":
        """The calls that have ended, one at least unless the time is over."""
        import ray

        for _ in self._started(timeout=0):
            pass
        calls = {ref: hand for hand in self._hands for ref in hand.pieces}
        self._require_hands()
        if not calls:
            time.sleep(timeout)
            return []
        ended = ray.wait([*calls], num_returns=len(calls), timeout=0)[0]
        ended = ended or ray.wait([*calls], timeout=timeout)[0]
        return [(calls[ref], ref) for ref in ended]

    def _receive(
        self,
        hand: _Hand,
        ref: "ObjectRef[Chunk]",
        todo: deque[_Sent],
        hand_over: Callable[[Chunk, Piece], None],
    ) -> None:
        import ray
        from ray.exceptions import RayError, RayTaskError

        sent = hand.pieces.pop(ref)
        try:
            chunk = ray.get(ref)
        except RayTaskError as error:
            self._retry(hand, sent, _plain(error), todo)
            return
        except RayError as error:
            self._let_go(hand, _short(error))
            if not sent.alone:
                todo.appendleft(sent._replace(alone=True))
                return
            again = _after_death(sent)
            todo.extendleft(reversed(again))
            if not again:
                id_ = sent.piece.ids[0]
                reason = f"killed its actor {ATTEMPTS - 1} times ({_short(error)})"
                hand_over(Chunk([], 0, [(id_, reason)], None, {}, 0.0, 0.0), sent.piece)
            return
        if (fault := unexpected(chunk, sent.piece)) is not None:
            raise WorkerFailed(f"node {hand.node.host} answered something else: {fault}")
        self._learn(sent)
        hand_over(chunk, sent.piece)

    def _retry(
        self,
        hand: _Hand,
        sent: _Sent,
        failure: PlatonicError,
        todo: deque[_Sent],
    ) -> None:
        """Have a piece done again, elsewhere if it can be. Raises: the failure, after a while."""
        failures = sent.failures + 1
        if failures >= ATTEMPTS or not isinstance(failure, WorkerFailed | StoreUnreachable):
            raise failure
        _log.warning("%s: a piece failed on %s: %s", self._model, hand.node.host, failure)
        todo.append(sent._replace(failures=failures))
        if isinstance(failure, WorkerFailed):  # its pool is closed
            self._let_go(hand, str(failure))

    def _let_go(self, hand: _Hand, reason: str) -> None:
        """An actor is gone; what else it was given comes back by itself, as calls that fail."""
        if not hand.is_lost:
            hand.is_lost = True
            _log.warning("%s: lost an actor on node %s (%s)", self._model, hand.node.host, reason)
            _kill(hand)
        if not hand.pieces and hand in self._hands:
            self._hands.remove(hand)

    def _learn(self, sent: _Sent) -> None:
        """How many edges an actor embeds in a second, smoothed."""
        seconds = max(1e-3, time.monotonic() - sent.since) / PIECES_IN_FLIGHT
        seen = sent.piece.edges / seconds
        known = self._edges_per_second
        self._edges_per_second = seen if known is None else (known + seen) / 2


def _after_death(sent: _Sent) -> list[_Sent]:
    """The pieces to send next, this one having killed its actor by itself; none: reject it."""
    deaths = sent.deaths + 1
    if deaths < ATTEMPTS - 1:
        return [sent._replace(deaths=deaths)]
    if len(sent.piece.ids) == 1:
        return []
    # One more death halves a half again; only a single structure has two attempts.
    return [_Sent(half, alone=True, deaths=int(len(half.ids) > 1)) for half in halves(sent.piece)]


def _actor(assignment: Assignment, node: Node, cluster: Cluster) -> "ActorHandle[Embedder]":
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote: Any = ray.remote(Embedder)
    options = remote.options(
        num_cpus=cluster.num_cpus,
        num_gpus=cluster.num_gpus,
        max_concurrency=PIECES_IN_FLIGHT,
        max_restarts=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
    )
    actor: ActorHandle[Embedder] = options.remote(assignment)
    return actor


def _kill(hand: _Hand) -> None:
    import ray

    ray.kill(hand.actor)


def _plain(error: Exception) -> PlatonicError:
    """What an actor raised, without its traceback; what nobody expected may hold credentials."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, PlatonicError):
        return cause
    return WorkerFailed(f"an actor failed by {type(cause or error).__name__}", "see its node's log")


def _short(error: Exception) -> str:
    return type(error).__name__
