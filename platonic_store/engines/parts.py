"""Work in parts of which none needs another, computed here or by tasks on a cluster's nodes.

On a cluster this process reads and writes as it does without.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

from platonic_store.engines.cluster import Cluster
from platonic_store.engines.node import passport
from platonic_store.engines.supervision import plain, short
from platonic_store.errors import ClusterNotReady, WorkerFailed
from platonic_store.runtimes.threads import ahead

if TYPE_CHECKING:
    from ray import ObjectRef

Part = TypeVar("Part")
Result = TypeVar("Result")


def calls(
    work: Callable[[Any, Any], Result], given: Any, cluster: Cluster | None
) -> Callable[[Any], Result]:
    """A function of two arguments whose first is given: called here, or on the nodes of a cluster.

    Raises, when it is called: what `work` raises, ClusterNotReady, WorkerFailed.
    """
    if cluster is None:
        return partial(work, given)
    import ray
    from ray.exceptions import RayError, RayTaskError

    task: Any = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(_call)
    kept, versions = [ray.put(given)], passport()

    def call(part: Any) -> Result:
        try:
            made: Result = ray.get(task.remote(work, kept, versions, part))
        except RayTaskError as error:
            raise plain(error) from None
        except RayError as error:
            raise WorkerFailed(f"a task of the cluster failed by {short(error)}") from None
        return made

    return call


def one_by_one(
    work: Callable[[Part], Result], parts: Iterable[Part], cluster: Cluster | None
) -> Iterator[tuple[Part, Result]]:
    """The parts and what was made of them, in their order; on a cluster some ahead.

    Here each by itself, since it takes all cores and much of the memory.
    """
    if cluster is not None:
        yield from ahead(work, parts, cores(cluster))
        return
    for part in parts:
        yield part, work(part)


def cores(cluster: Cluster | None) -> int | None:
    """How many cores the cluster has that this process belongs to; None without one."""
    if cluster is None:
        return None
    import ray

    resources: Any = ray.cluster_resources  # without types
    return max(1, int(resources().get("CPU", 1)))


def _call(
    work: Callable[[Any, Any], Result],
    kept: "list[ObjectRef[Any]]",
    versions: dict[str, str],
    part: Any,
) -> Result:
    """On a node. kept: in a list, or Ray would fetch it anew for each call."""
    _require(tuple(versions.items()))
    return work(_fetched(kept[0]), part)


@lru_cache(maxsize=1)
def _fetched(kept: "ObjectRef[Any]") -> Any:
    import ray

    return ray.get(kept)


@lru_cache
def _require(versions: tuple[tuple[str, str], ...]) -> None:
    own = passport()
    others = [f"{name} {own[name]} (here {one})" for name, one in versions if own[name] != one]
    if others:
        raise ClusterNotReady(
            f"a node of the cluster has {', '.join(others)}",
            "install the same versions on all nodes",
        )
