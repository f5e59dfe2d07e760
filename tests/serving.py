"""An ASGI application behind a real server, for the time of a test."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import anyio
import uvicorn


def awaited(function: Callable[[], Awaitable[Any]]) -> Any:
    """What an async function gives. A test of the page may have left a loop in this thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(anyio.run, function).result()


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The URL at which the application is served."""
    # Clients keep their connections.
    how = {"log_level": "error", "ws": "none", "timeout_graceful_shutdown": 1}
    server = uvicorn.Server(uvicorn.Config(app, port=0, **how))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        loop = server.servers[0].get_loop()
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), f"it does not end: {asyncio.all_tasks(loop)}"
