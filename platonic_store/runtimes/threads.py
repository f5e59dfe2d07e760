"""Work in parts of which none needs another, by threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

from platonic_store.runtimes.cores import usable_cores

Part = TypeVar("Part")
Result = TypeVar("Result")


def ahead(
    work: Callable[[Part], Result], parts: Iterable[Part], width: int | None = None
) -> Iterator[tuple[Part, Result]]:
    """The parts and what was made of them, in their order, some computed while one is used.

    width: how many threads, by default one a core. Each calls BLAS without its own: those wait for
        one another in a loop, and on cores that others use many small products take tens of times
        as long.
    """
    waiting: deque[tuple[Part, Future[Result]]] = deque()
    threads = width or usable_cores()
    pool = ThreadPoolExecutor(threads)
    try:
        with threadpool_limits(1, "blas"):
            for part in parts:
                waiting.append((part, pool.submit(work, part)))
                if len(waiting) > threads:
                    done, made = waiting.popleft()
                    yield done, made.result()
            for done, made in waiting:
                yield done, made.result()
    finally:
        pool.shutdown(cancel_futures=True)
