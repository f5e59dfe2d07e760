"""Ctrl-C, put off while a commit is under way."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put Ctrl-C off to the end of the block.

    Lance writes in a thread of its own. A call that is interrupted leaves it writing, maybe after
    the next writer has settled what it found.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # where Ctrl-C never arrives
        return
    pressed: list[tuple[int, FrameType | None]] = []
    handler = signal.signal(signal.SIGINT, lambda *given: pressed.append(given))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if pressed and callable(handler):
        handler(*pressed[0])
