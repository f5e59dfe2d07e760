"""What was computed a moment ago: the most recently used that fit, and each computed once."""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Computation(Generic[T]):
    task: "asyncio.Task[T]"
    waiting: int = 0


class Cache(Generic[T]):
    """Values by key, as many as fit. Who asks for one that is being computed waits for it."""

    def __init__(self, nbytes: int, size: Callable[[T], int]):
        self._limit, self._size = nbytes, size
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._computing: dict[Hashable, _Computation[T]] = {}
        self._lock = threading.Lock()
        self.nbytes = self.hits = self.misses = 0

    def get(self, key: Hashable) -> T | None:
        """A value that is here."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self.hits += 1
                self._values.move_to_end(key)
            return value

    async def get_or(self, key: Hashable, compute: Callable[[], Awaitable[T]]) -> T:
        """A value that is here, or is computed now; given up when nobody waits for it any more.

        Raises: what `compute` raises.
        """
        if (value := self.get(key)) is not None:
            return value
        found = self._computing.get(key)
        if found is None:
            self.misses += 1
            found = _Computation(asyncio.ensure_future(self._compute(key, compute)))
            found.task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._computing[key] = found
        found.waiting += 1
        try:
            return await asyncio.shield(found.task)
        finally:
            found.waiting -= 1
            if not found.waiting and not found.task.done():
                self._forget(key, found.task)
                found.task.cancel()

    async def _compute(self, key: Hashable, compute: Callable[[], Awaitable[T]]) -> T:
        try:
            value = await compute()
        finally:
            self._forget(key, asyncio.current_task())
        self.put(key, value)
        return value

    def _forget(self, key: Hashable, task: "asyncio.Task[T] | None") -> None:
        """That the task computes the value, unless another does already."""
        if key in self._computing and self._computing[key].task is task:
            del self._computing[key]

    def put(self, key: Hashable, value: T) -> None:
        """Keep a value, unless it is a large part of what fits."""
        size = self._size(value)
        with self._lock:
            if size > self._limit // 4 or key in self._values:
                return
            self._values[key] = value
            self.nbytes += size
            while self.nbytes > self._limit:
                _, oldest = self._values.popitem(last=False)
                self.nbytes -= self._size(oldest)
