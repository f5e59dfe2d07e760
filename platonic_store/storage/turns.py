"""Whose turn it is at the catalogue: many readers or one writer, of all processes and threads.

DuckDB locks the file too, but with a lock of the process: it is lost as soon as any thread closes
the file, while other threads still read. And it favours readers: whose queries overlap keep a
writer out for ever. Here a reader passes through a turnstile, which a waiting writer keeps shut.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import tenacity

from platonic_store.errors import StoreBusy

WAIT_SECONDS = 60.0
# For tenacity: what waits for another, here or in DuckDB, asks again after so long.
PAUSE = tenacity.wait_random_exponential(multiplier=0.005, max=0.05)
PATIENCE = tenacity.stop_after_delay(WAIT_SECONDS)
# How many times this thread holds which catalogue to read: a query within a query waits for no one.
_held = threading.local()


class Turns:
    """Turns at the file `path`. The lock files beside it are made by the first writer."""

    def __init__(self, path: Path):
        self._path = path.resolve()
        self._turnstile = path.with_suffix(".turnstile")
        self._room = path.with_suffix(".lock")

    @contextmanager
    def reading(self) -> Iterator[None]:
        depths: dict[Path, int] = vars(_held).setdefault("depths", {})
        depth = depths.get(self._path, 0)
        depths[self._path] = depth + 1
        try:
            with ExitStack() as room:
                if not depth:
                    with _locked(self._turnstile, fcntl.LOCK_SH):
                        room.enter_context(_locked(self._room, fcntl.LOCK_SH))
                yield
        finally:
            depths[self._path] = depth

    @contextmanager
    def writing(self) -> Iterator[None]:
        if vars(_held).get("depths", {}).get(self._path):
            raise StoreBusy(
                f"this thread still reads {self._path.parent}: "
                "close its `store.snapshot()` before it writes"
            )
        flags = os.O_RDWR | os.O_CREAT
        with (
            _locked(self._turnstile, fcntl.LOCK_EX, flags),
            _locked(self._room, fcntl.LOCK_EX, flags),
        ):
            yield


@contextmanager
def _locked(path: Path, kind: int, flags: int = os.O_RDONLY) -> Iterator[None]:
    """Hold a lock of an open file. A reader needs none where no writer ever made the file."""
    try:
        handle = os.open(path, flags)
    except FileNotFoundError:
        if flags != os.O_RDONLY:
            raise
        yield
        return
    try:
        _lock(handle, kind, path)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, kind: int, path: Path) -> None:
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(BlockingIOError),
        wait=PAUSE,
        stop=PATIENCE,
        reraise=True,
    )
    try:
        attempts(fcntl.flock, handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        who = "a query" if kind == fcntl.LOCK_EX else "a commit"
        raise StoreBusy(
            f"{who} has held {path.parent} for over {WAIT_SECONDS:.0f} s: wait for it or stop it, "
            "and run the same command again: nothing committed was lost"
        ) from None
