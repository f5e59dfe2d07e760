"""uvicorn's connections, with times within which a client sends and reads, and a number of them."""

import asyncio
import heapq
import json
import time
from collections.abc import Iterable
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS: Final = 10.0  # until a request's head is here
READ_SECONDS: Final = 15.0  # in which a client reads the next piece of an answer
READ_BYTES: Final = 16 << 10  # of that piece
_LOOK_SECONDS: Final = 1.0
_AT_ONCE: Final = 16


class Connection(H11Protocol):
    """A connection that ends when its client is too slow.

    When there are more of them than `limit_concurrency`, those which have been idle for longest end
    for a new one; where none is idle, the new one is told to come later.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.limit_concurrency = None  # uvicorn would refuse requests for idle connections' sake
        self.idle_since = time.monotonic()
        self._unread = 0
        self._unread_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """uvicorn's, within the limit."""
        super().connection_made(transport)
        most = self.config.limit_concurrency
        if most is not None and len(self.connections) > most:
            idle = _longest_idle(self.connections, self)
            if not idle:
                self._refuse()
                return
            for one in idle:
                one.transport.abort()
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """uvicorn's."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """uvicorn's; the next request may take its time from now on."""
        self.idle_since = time.monotonic()
        super().on_response_complete()

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered, nor an answer being read."""
        is_answering = self.cycle is not None and not self.cycle.response_complete
        return not is_answering and not self.transport.get_write_buffer_size()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets a problem too."""
        self._write_problem(400, "Bad Request", msg)

    def _refuse(self) -> None:
        self._write_problem(503, "Service Unavailable", "there are too many connections")

    def _write_problem(self, status: int, title: str, detail: str) -> None:
        body = json.dumps(
            {"type": "about:blank", "title": title, "status": status, "detail": detail, "hint": ""}
        )
        retry = "Retry-After: 2\r\n" if status == 503 else ""
        head = (
            f"HTTP/1.1 {status} {title}\r\nContent-Type: application/problem+json\r\n"
            f"Content-Length: {len(body)}\r\n{retry}Connection: close\r\n\r\n"
        )
        self.transport.write((head + body).encode())
        self.transport.close()

    def _look_later(self) -> None:
        self._timer = self.loop.call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """End the connection if its client keeps it waiting."""
        now = time.monotonic()
        unread = self.transport.get_write_buffer_size()
        if not unread or unread <= self._unread - READ_BYTES or not self._unread:
            self._unread, self._unread_since = unread, now
        is_late = self.is_idle and now - self.idle_since > REQUEST_SECONDS
        if is_late or (unread and now - self._unread_since > READ_SECONDS):
            self.transport.abort()
            return
        self._look_later()


def _longest_idle(connections: Iterable[Any], new: Connection) -> list[Connection]:
    """Several, so that a wave of new ones does not look through all for each."""
    idle = (one for one in connections if one is not new and one.is_idle)
    return heapq.nsmallest(_AT_ONCE, idle, key=lambda one: one.idle_since)
