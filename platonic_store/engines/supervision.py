"""The actors of a model on a cluster: started where there is room, and replaced when they die."""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from platonic_store import progress
from platonic_store.engines import Chunk
from platonic_store.engines.cluster import Cluster, Node, Nodes
from platonic_store.engines.cutting import Piece
from platonic_store.engines.node import Assignment, Embedder
from platonic_store.errors import CheckpointMismatch, ClusterNotReady, PlatonicError, WorkerFailed

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

_log = logging.getLogger(__name__)

PIECES_IN_FLIGHT: Final = 2
STARTS: Final = 5  # of a node, in a row
# How often the cluster is asked for its nodes, and how long it may have none that works.
LOOK_SECONDS: Final = 2.0
PATIENCE = 60.0
TELL_SECONDS: Final = 5.0


class Sent(NamedTuple):
    """A piece, with how often its actor died of it and how often the store was out of reach.

    alone: an actor has died that had it and perhaps others.
    """

    piece: Piece
    alone: bool = False
    deaths: int = 0
    failures: int = 0
    since: float = 0.0


@dataclass(eq=False)
class Actor:
    """An actor on a node, and what it was given."""

    handle: "ActorHandle[Embedder]"
    node: Node
    pieces: "dict[ObjectRef[Chunk], Sent]" = field(default_factory=dict)
    is_lost: bool = False

    def has_room(self, count: int) -> bool:
        """Whether it has at most `count` pieces, none of which is to be alone."""
        alone = any(sent.alone for sent in self.pieces.values())
        return not self.is_lost and not alone and len(self.pieces) <= count


class Actors:
    """All actors of a model, as they come and go. identity: what all of their workers are."""

    identity: dict[str, Any]

    def __init__(self, assignment: Assignment, cluster: Cluster):
        """Raises: ClusterNotReady, and what `Embedder.start` raises where no node can work."""
        self._assignment, self._cluster, self._model = assignment, cluster, assignment.card.name
        self._actors: list[Actor] = []
        self._starting: dict[ObjectRef[dict[str, Any]], Actor] = {}
        self._looked = -LOOK_SECONDS
        self._failure: PlatonicError | None = None
        self._nodes = Nodes(cluster)
        self._stillborn: Counter[str] = Counter()
        self._busy_at = time.monotonic()
        try:
            self.identity = self._first_identity()
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[Actor]:
        return iter(self._actors)

    def close(self) -> None:
        """End all actors."""
        for actor in [*self._actors, *self._starting.values()]:
            _kill(actor)

    def start_missing(self) -> None:
        """Put actors where there is room for them."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        held = [actor.node.id for actor in [*self._actors, *self._starting.values()]]
        for node in self._nodes.usable():
            for _ in range(node.room - held.count(node.id)):
                handle = _handle(self._assignment, node, self._cluster)
                self._starting[handle.start.remote()] = Actor(handle, node)
                _log.info("%s: an actor starts on node %s", self._model, node.host)

    def ready(self, timeout: float) -> "list[tuple[Actor, ObjectRef[Chunk]]]":
        """The calls that have ended, one at least unless the time is over."""
        import ray

        for _ in self._started(timeout=0):
            pass
        calls = {ref: actor for actor in self._actors for ref in actor.pieces}
        self._require_actors()
        if not calls:
            time.sleep(timeout)
            return []
        ended = ray.wait([*calls], num_returns=len(calls), timeout=0)[0]
        ended = ended or ray.wait([*calls], timeout=timeout)[0]
        return [(calls[ref], ref) for ref in ended]

    def lose(self, actor: Actor, reason: str) -> None:
        """An actor is gone; what else it was given comes back by itself, as calls that fail."""
        if not actor.is_lost:
            actor.is_lost = True
            progress.say(f"lost an actor on node {actor.node.host}, others go on ({reason})")
            _log.warning("%s: lost an actor on node %s (%s)", self._model, actor.node.host, reason)
            _kill(actor)
        if not actor.pieces and actor in self._actors:
            self._actors.remove(actor)

    def _first_identity(self) -> dict[str, Any]:
        """Of the first actor that is ready; the others go on getting ready."""
        started, is_told = time.monotonic(), False
        while True:
            self.start_missing()
            for identity in self._started(timeout=0.5):
                return identity
            if self._failure is not None and not self._starting and not self._nodes.is_asking:
                raise self._failure
            self._require_actors()
            if not is_told and time.monotonic() - started > TELL_SECONDS:
                lacking = f"no node has {self._cluster.share}: waiting {PATIENCE:.0f} s for one"
                loading = f"waiting for the cluster to load {self._model}"
                progress.say(loading if self._is_busy else lacking)
                is_told = True

    @property
    def _is_busy(self) -> bool:
        """Whether there is an actor, or there may soon be one."""
        return bool(self._actors or self._starting or self._nodes.is_asking)

    def _require_actors(self) -> None:
        """Raises: what a node said, or ClusterNotReady, after a while without any actor."""
        if self._is_busy:
            self._busy_at = time.monotonic()
            return
        patience = 0.0 if self._cluster.address == "local" else PATIENCE  # no node will join it
        if time.monotonic() - self._busy_at <= patience:
            return
        if self._failure is not None:
            raise self._failure
        if self._nodes.refusals:
            raise ClusterNotReady(
                f"no node of the cluster can run {self._model}: {'; '.join(self._nodes.refusals)}",
                "install the same versions on all nodes",
            )
        raise ClusterNotReady(
            f"no node of the cluster has {self._cluster.share} for one actor",
            "ask for less, or add nodes",
        )

    def _started(self, timeout: float) -> Iterator[dict[str, Any]]:
        """The identities of actors that have got ready; those that cannot are left out."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        if not self._starting:
            time.sleep(timeout)
            return
        for ref in ray.wait([*self._starting], timeout=timeout)[0]:
            actor = self._starting.pop(ref)
            try:
                identity = ray.get(ref)
            except RayTaskError as error:
                self._failure = plain(error)
                _kill(actor)
                self._nodes.avoid(actor.node, str(self._failure))
                continue
            except RayError as error:
                _log.warning("an actor on %s died at its start: %s", actor.node.host, short(error))
                _kill(actor)
                self._stillborn[actor.node.id] += 1
                if self._stillborn[actor.node.id] == STARTS:
                    self._nodes.avoid(actor.node, f"{STARTS} actors died at their start")
                continue
            self._stillborn[actor.node.id] = 0
            self._require_same(identity, actor)
            self._actors.append(actor)
            yield identity

    def _require_same(self, identity: dict[str, Any], actor: Actor) -> None:
        known = getattr(self, "identity", identity)
        for name in ("checkpoint_sha256", "layers", "dtype", "versions"):
            if identity[name] != known[name]:
                raise CheckpointMismatch(
                    f"node {actor.node.host} has another {name} of {self._model}: "
                    f"{identity[name]} and {known[name]}",
                    "install the same packages and weights on all nodes",
                )


def plain(error: Exception) -> PlatonicError:
    """What a node raised, without its traceback; what nobody expected may hold credentials."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, PlatonicError):
        return cause
    return WorkerFailed(f"a node failed by {type(cause or error).__name__}", "see its log")


def short(error: Exception) -> str:
    """An error of Ray's by its name: its text fills a screen."""
    return type(error).__name__


def _handle(assignment: Assignment, node: Node, cluster: Cluster) -> "ActorHandle[Embedder]":
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
    handle: ActorHandle[Embedder] = options.remote(assignment)
    return handle


def _kill(actor: Actor) -> None:
    import ray

    ray.kill(actor.handle)
