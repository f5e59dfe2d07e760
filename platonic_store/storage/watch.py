"""Work on a snapshot that can be stopped from another thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from weakref import WeakSet

import duckdb

from platonic_store.errors import InvalidQuery, OutOfTime

_watch: ContextVar["Watch | None"] = ContextVar("_watch", default=None)


class Watch:
    """The DuckDB cursors that a block of code has made, and how many rows it may answer with."""

    def __init__(self, most_rows: int | None = None) -> None:
        self.most_rows = most_rows
        self._cursors: WeakSet[duckdb.DuckDBPyConnection] = WeakSet()
        self._lock = threading.Lock()
        self.is_over = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block this thread's use of snapshots is watched."""
        token = _watch.set(self)
        try:
            yield
        finally:
            _watch.reset(token)

    def stop(self) -> None:
        """Interrupt its queries, and let the block ask nothing more of a snapshot.

        A query that is about to begin does not notice: call it again until the block has ended.
        """
        with self._lock:
            self.is_over = True
            for cursor in self._cursors:
                cursor.interrupt()

    def add(self, cursor: duckdb.DuckDBPyConnection) -> None:
        with self._lock:
            self._cursors.add(cursor)


def check() -> None:
    """Raises: OutOfTime in a block whose watch was stopped."""
    watch = _watch.get()
    if watch is not None and watch.is_over:
        raise OutOfTime("stopped, because its time was over")


def check_rows(count: int) -> None:
    """Raises: InvalidQuery in a block that may not answer with so many rows."""
    watch = _watch.get()
    if watch is not None and watch.most_rows is not None and count > watch.most_rows:
        raise InvalidQuery(
            f"an answer has at most {watch.most_rows:,} rows here", "ask for fewer", "use Python"
        )


def watched(cursor: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """The cursor, known to the watch of the block. Raises: OutOfTime."""
    check()
    if (watch := _watch.get()) is not None:
        watch.add(cursor)
    return cursor
