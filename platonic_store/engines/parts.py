"""Work in parts of which none needs another: computed by this machine's threads, or on a cluster.

On a cluster this process reads and writes as it does without, and tasks on the nodes compute.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

from threadpoolctl import threadpool_limits

from platonic_store.engines.cluster import Cluster
from platonic_store.engines.node import passport
from platonic_store.engines.supervision import plain, short
from platonic_store.errors import ClusterNotReady, WorkerFailed
from platonic_store.runtimes.cores import usable_cores

if TYPE_CHECKING:
    from ray import ObjectRef

Part = TypeVar("Part")
Result = TypeVar("Result")


def ahead(
    work: Callable[[Part], Result], parts: Iterable[Part], cluster: Cluster | None = None
) -> Iterator[tuple[Part, Result]]:
    """The parts and what was made of them, in their order, some computed while one is used.

    Here each thread calls BLAS with no others: those of BLAS wait for one another in a loop, and
    where cores are shared many small products take tens of times as long.
    """
    width = usable_cores() if cluster is None else cores()
    waiting: deque[tuple[Part, Future[Result]]] = deque()
    pool = ThreadPoolExecutor(width)
    try:
        with threadpool_limits(None if cluster else 1, "blas"):
            for part in parts:
                waiting.append((part, pool.submit(work, part)))
                if len(waiting) > width:
                    done, made = waiting.popleft()
                    yield done, made.result()
            for done, made in waiting:
                yield done, made.result()
    finally:
        pool.shutdown(cancel_futures=True)


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


def cores() -> int:
    """How many cores the cluster has that this process belongs to."""
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
