"""A cluster by Ray: to join one, and which of its nodes can work."""

import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from platonic_store import progress
from platonic_store.engines.node import passport
from platonic_store.errors import Call, ClusterNotReady, InvalidQuery

if TYPE_CHECKING:
    from ray import ObjectRef

_LOG = logging.getLogger(__name__)
_INSTALL: Final = "pip install 'platonic-store[ray]'"
# Ray tells its makers of each start, warns of what it will do about GPUs, and prints to stdout, a
# screen long, of nodes that are lost: lines that match the last one are left out.
_VARIABLES: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
}

ANSWER_SECONDS: Final = 10.0
# How a client of HTTP/2 begins, as gRPC's do: with no settings. A server begins with its own.
_SETTINGS: Final = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_GREETING: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS


class Cluster(NamedTuple):
    """Which cluster, and what one actor is given of a node.

    address: "auto" (the one that this machine belongs to), "local" (one that is started, and ends
    with the job), or HOST:PORT. num_cpus: also the worker processes of an actor on CPUs.
    """

    address: str
    num_cpus: int = 1
    num_gpus: float = 0.0

    @property
    def share(self) -> str:
        """What one actor takes, in words."""
        cpus = "1 CPU" if self.num_cpus == 1 else f"{self.num_cpus} CPUs"
        gpus = "1 GPU" if self.num_gpus == 1 else f"{self.num_gpus:g} GPUs"
        return f"{cpus} and {gpus}" if self.num_gpus else cpus


def named(
    address: str | None, num_cpus: int | None = None, num_gpus: float | None = None
) -> Cluster | None:
    """The cluster of an address, None if there is none.

    Raises: InvalidQuery for actors without a cluster, or for actors of no CPU.
    """
    if address is None:
        if num_cpus is None and num_gpus is None:
            return None
        raise InvalidQuery(
            f"{'GPUs' if num_cpus is None else 'CPUs'} of an actor are a cluster's, and none is "
            "named; this machine takes all its cores, and its GPU where it has one",
            "leave it out",
            Call("ingest", "SOURCE", models=["MODEL"], ray="auto"),
        )
    cluster = Cluster(address, 1 if num_cpus is None else num_cpus, num_gpus or 0.0)
    if cluster.num_cpus < 1 or cluster.num_gpus < 0:
        raise InvalidQuery(f"an actor cannot take {cluster.share}", "ask for one CPU or more")
    return cluster


@contextmanager
def joined(cluster: Cluster | None) -> Iterator[None]:
    """Be part of a cluster, if there is one and this process is not yet.

    Raises: ClusterNotReady.
    """
    if cluster is None:
        yield
        return
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise ClusterNotReady("Ray is not installed", f"run `{_INSTALL}`") from None
    if ray.is_initialized():
        yield
        return
    _require_answer(cluster.address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if cluster.address == "local":
        options["include_dashboard"] = False
    try:
        with warnings.catch_warnings():
            # Ray's processes are forked, and become other programs at once.
            warnings.filterwarnings("ignore", "lance is not fork-safe")
            ray.init(address=cluster.address, **options)
    except Exception as error:  # of a node that starts too slowly Ray raises just this
        # Where an address is named, Ray does not say that the cluster asks for a token.
        token = ["set RAY_AUTH_MODE=token if the cluster asks for one"]
        token = [] if cluster.address == "auto" else token
        raise _no_answer(cluster.address, str(error), *token) from None
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Raises: ClusterNotReady where no gRPC server answers at HOST:PORT.

    Ray ends the process where nobody does, and asks for ever where another server does.
    """
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise _no_answer(address, "an address is HOST:PORT")
    is_encrypted = os.environ.get("RAY_USE_TLS") == "1"
    try:
        with socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS) as connection:
            if is_encrypted:
                return
            connection.sendall(_GREETING)
            answer = connection.recv(len(_SETTINGS))
    except (OSError, ValueError, OverflowError) as error:
        raise _no_answer(address, str(error)) from None
    if answer[3:4] != _SETTINGS[3:4]:
        raise _no_answer(address, "another server does")


def _no_answer(address: str, reason: str, *hint: str) -> ClusterNotReady:
    # Ray goes on with options of its own, which are none here.
    reason = " ".join(reason.split()).partition(" Please ")[0][:200]
    if address == "local":
        return ClusterNotReady(f"Ray does not start here ({reason})", "do without a cluster")
    return ClusterNotReady(
        f"no Ray cluster answers at {address} ({reason})",
        *(hint or ["start a cluster with Ray"]),
        "name it `local` to try one of this machine alone",
    )


class Node(NamedTuple):
    """A node that runs the same versions as the driver. room: how many actors it can hold."""

    id: str
    host: str
    room: int


class Nodes:
    """The nodes of the cluster, as they come and go."""

    def __init__(self, cluster: Cluster):
        self._cluster = cluster
        self._own = passport()
        self._asked: dict[str, ObjectRef[dict[str, str]]] = {}
        self._agrees: dict[str, bool] = {}
        self.refusals: list[str] = []

    def usable(self) -> list[Node]:
        """Those that are alive, can hold an actor, and are known to agree with the driver."""
        import ray

        found = []
        entries: Any = ray.nodes  # without types
        for entry in entries():
            node = Node(entry["NodeID"], entry["NodeManagerHostname"], self._room(entry))
            if entry["Alive"] and node.room and self._is_same(node):
                found.append(node)
        return found

    def avoid(self, node: Node, reason: str) -> None:
        """Use a node no more."""
        if self._agrees.get(node.id, True):
            self._agrees[node.id] = False
            self.refusals.append(f"{node.host}: {reason}")
            progress.say(f"node {node.host} is left out: {reason}")
            _LOG.warning("node %s is left out: %s", node.host, reason)

    @property
    def is_asking(self) -> bool:
        """Whether a node has not said yet which versions it has."""
        return bool(self._asked)

    def _room(self, entry: dict[str, Any]) -> int:
        resources, wanted = entry["Resources"], self._cluster
        by_cpus = resources.get("CPU", 0) // wanted.num_cpus
        by_gpus = resources.get("GPU", 0) / wanted.num_gpus if wanted.num_gpus else by_cpus
        return int(min(by_cpus, by_gpus))

    def _is_same(self, node: Node) -> bool:
        if node.id in self._agrees:
            return self._agrees[node.id]
        import ray
        from ray.exceptions import RayError, RayTaskError

        if node.id not in self._asked:
            self._asked[node.id] = _ask(node)
            return False
        if not ray.wait([self._asked[node.id]], timeout=0)[0]:
            return False
        try:
            told = ray.get(self._asked.pop(node.id))
        except RayTaskError:  # one without this module
            told = {}
        except RayError as error:  # its process died, which says nothing of the node
            _LOG.warning("node %s did not say its versions: %s", node.host, type(error).__name__)
            return False
        others = [
            f"{name} {told.get(name, 'unknown')} (here {version})"
            for name, version in self._own.items()
            if told.get(name) != version
        ]
        if others:
            self.avoid(node, f"it has {', '.join(others)}")
        else:
            self._agrees[node.id] = True
        return not others


def _ask(node: Node) -> "ObjectRef[dict[str, str]]":
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0, max_retries=0)(passport)
    return ask.options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
    ).remote()
