"""What was computed a moment ago: the most recently used that fit, and each computed once."""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Values by key, as many as fit. Who asks for one that is being computed waits for it."""

    def __init__(self, nbytes: int, size: Callable[[T], int]):
        self._limit, self._size = nbytes, size
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._computing: dict[Hashable, asyncio.Task[T]] = {}
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
        """A value that is here, or is computed now. Raises: what that raises."""
        if (value := self.get(key)) is not None:
            return value
        task = self._computing.get(key)
        if task is None:
            self.misses += 1
            task = asyncio.ensure_future(self._compute(key, compute))
            self._computing[key] = task
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    async def _compute(self, key: Hashable, compute: Callable[[], Awaitable[T]]) -> T:
        try:
            value = await compute()
        finally:
            del self._computing[key]
        self.put(key, value)
        return value

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
