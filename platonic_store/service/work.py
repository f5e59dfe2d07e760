"""The bounded work of a service: functions of the newest snapshot, in threads, within a time."""

import asyncio
import contextvars
import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import duckdb

from platonic_store.errors import OutOfTime, PlatonicError, ServiceBusy, TooManyRequests
from platonic_store.questions.shared.inputs import (
    NotYetEmbedded,
    UploadedStructures,
    ids_only,
    naming_uploads,
)
from platonic_store.service.settings import Settings
from platonic_store.storage.reader import Reader
from platonic_store.storage.snapshot import Snapshot
from platonic_store.storage.watch import Watch
from platonic_store.store import Store

P = ParamSpec("P")
R = TypeVar("R")

LOOK_SECONDS: Final = 1.0  # how often a newer snapshot is looked for
OLDER_SNAPSHOTS: Final = 3  # that stay open for those who turn their pages
STUCK_SECONDS: Final = 1.0  # after which an interruption has not been noticed
STOP_SECONDS: Final = 0.2  # between interruptions of work that is over its time

logger = logging.getLogger(__name__)

client: ContextVar[str] = ContextVar("client", default="")


class Work:
    """What answers requests: a few threads, a queue that ends, a time limit.

    uploads: what else than the store's own structures a text may name (uploads).
    """

    uploads: UploadedStructures | None = None

    def __init__(self, store: Store, settings: Settings):
        self.settings = settings
        self.location = store.location
        self._references = store.references
        self._reader = self._reader_at(store.at)
        self._look_lock = threading.Lock()
        self._older: OrderedDict[int, Snapshot] = OrderedDict()
        self._pool = ThreadPoolExecutor(settings.threads, "answer")
        self._looker = ThreadPoolExecutor(2, "snapshot")
        self._clients: Counter[str] = Counter()
        self._watches: set[Watch] = set()
        # Answers that nobody waits for any more, and since when.
        self._overdue: dict[Future[Any], float] = {}
        self._is_closed = False
        self._newest = self._looker.submit(self._reader.snapshot).result()
        self._looked_at = time.monotonic()
        self.asked = 0  # waiting or at work

    def _reader_at(self, id: int | None) -> Reader:
        return Reader(self.location, id, memory=self.settings.memory, references=self._references)

    def snapshot(self) -> Snapshot:
        """The newest snapshot, as it was known a second ago; does not block."""
        if self._is_outdated and not self._is_closed:
            self._looker.submit(self._look)
        return self._newest

    async def newest(self) -> Snapshot:
        """The newest snapshot; where the store is slow to say, the last one that was known."""
        if self._is_outdated and not self._is_closed:
            look = asyncio.get_running_loop().run_in_executor(self._looker, self._look)
            await asyncio.wait([look], timeout=0.2)
        return self._newest

    @property
    def _is_outdated(self) -> bool:
        return time.monotonic() - self._looked_at > LOOK_SECONDS

    def _look(self) -> None:
        """See whether there is a newer snapshot, unless another thread does."""
        if not self._is_outdated or not self._look_lock.acquire(blocking=False):
            return
        try:
            self._newest = self._reader.snapshot()
        except PlatonicError as error:
            logger.warning("no newer snapshot: %s", error)
        finally:
            self._looked_at = time.monotonic()
            self._look_lock.release()

    async def at(self, id: int) -> Snapshot:
        """A snapshot by its number, for those who go on with what they began.

        Raises: SnapshotNotFound, and what `snapshot` raises.
        """
        newest = await self.newest()
        if newest.id == id:
            return newest
        return await asyncio.get_running_loop().run_in_executor(self._looker, self._open, id)

    def _open(self, id: int) -> Snapshot:
        with self._look_lock:
            if id not in self._older:
                self._older[id] = self._reader_at(id).snapshot()
            self._older.move_to_end(id)
            while len(self._older) > OLDER_SNAPSHOTS:
                self._older.popitem(last=False)
            return self._older[id]

    async def run(
        self, function: Callable[Concatenate[Snapshot, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """`function(snapshot, …)` of the newest snapshot, in a thread.

        In it a text names structures of the store and uploads, never a file.

        Raises: OutOfTime, ServiceBusy, TooManyRequests, and what the function raises.
        """
        return await self.run_on(await self.newest(), function, *args, **kwargs)

    async def run_on(
        self,
        snapshot: Snapshot,
        function: Callable[Concatenate[Snapshot, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """`run` on a snapshot that the caller has."""
        end = time.monotonic() + self.settings.seconds
        while True:
            call: Callable[[], R] = lambda: function(snapshot, *args, **kwargs)  # noqa: E731
            try:
                return await self._call(call, end)
            except NotYetEmbedded as missing:
                # No thread waits for a model. When it has answered, all is asked again.
                await self._wait(asyncio.wrap_future(missing.future), end)

    async def _call(self, function: Callable[[], R], end: float) -> R:
        who = client.get()
        if self._is_closed:
            raise _ending()
        if self.asked >= self.settings.queue or self._is_stuck():
            raise ServiceBusy("the service has as much to answer as it can", "try again later")
        if who and self._clients[who] >= self.settings.per_client:
            raise TooManyRequests(
                f"{self._clients[who]} requests of this client are being answered",
                "wait for answers before you ask more",
            )
        watch = Watch(self.settings.answer_rows)
        context = contextvars.copy_context()
        future = self._pool.submit(context.run, self._within, watch, function)
        self.asked += 1
        self._clients[who] += 1
        try:
            return await self._wait(asyncio.wrap_future(future), end)
        finally:
            self.asked -= 1
            self._clients[who] -= 1
            self._clients += Counter()  # forgets clients without requests
            if not future.done() and not future.cancel():
                self._overdue[future] = time.monotonic()
                self._stop(watch, future)

    async def _wait(self, awaited: "asyncio.Future[R]", end: float) -> R:
        awaited.add_done_callback(_seen)
        try:
            async with asyncio.timeout(max(0.0, end - time.monotonic())):
                return await asyncio.shield(awaited)
        except (asyncio.CancelledError, duckdb.InterruptException):
            if self._is_closed:
                raise _ending() from None
            raise
        except TimeoutError as error:
            if isinstance(error, OutOfTime):
                raise
            raise OutOfTime(
                f"the answer takes longer than the {self.settings.seconds:g} s that are allowed",
                "ask for less",
            ) from None

    def _within(self, watch: Watch, function: Callable[[], R]) -> R:
        self._watches.add(watch)
        try:
            with watch.watching(), ids_only(), naming_uploads(self.uploads):
                return function()
        finally:
            self._watches.discard(watch)

    def _stop(self, watch: Watch, future: "Future[Any]") -> None:
        """Interrupt what nobody waits for any more, until it has ended."""
        if future.done():
            self._overdue.pop(future, None)
            future.exception()  # comes too late for anybody
            return
        watch.stop()
        asyncio.get_running_loop().call_later(STOP_SECONDS, self._stop, watch, future)

    def _is_stuck(self) -> bool:
        """Whether all threads are deep in what cannot be interrupted."""
        late = time.monotonic() - STUCK_SECONDS
        stuck = [one for one, since in self._overdue.items() if since < late and not one.done()]
        return len(stuck) >= self.settings.threads

    @property
    def busy_threads(self) -> int:
        """How many answer now, those over their time included."""
        return len(self._watches)

    def close(self) -> None:
        """Stop all work: who waits for it is told that the service ends."""
        self._is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._looker.shutdown(wait=False, cancel_futures=True)
        for watch in list(self._watches):
            watch.stop()


def _ending() -> ServiceBusy:
    return ServiceBusy("the service is ending", "ask again when it is back")


def _seen(future: "asyncio.Future[Any]") -> None:
    """An error that comes when nobody waits any more is no news."""
    if not future.cancelled():
        future.exception()
