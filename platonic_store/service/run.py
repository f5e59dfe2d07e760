"""Runs the service until it is told to stop."""

import logging
import os
import socket
import sys
from contextlib import suppress
from typing import Final

import uvicorn
from fastapi import FastAPI
from threadpoolctl import threadpool_limits

from platonic_store.errors import InvalidQuery
from platonic_store.progress import say
from platonic_store.service.app import create_app
from platonic_store.service.connections import Connection
from platonic_store.service.settings import Settings
from platonic_store.service.work import Work
from platonic_store.store import Store

SWITCH_SECONDS: Final = 0.0005


def require_safe(settings: Settings) -> None:
    """Raises: InvalidQuery for a service that anybody could reach and nobody said so."""
    if not settings.is_local and not settings.token and not settings.public:
        raise InvalidQuery(
            f"{settings.host} can be reached from other machines",
            "give a `--token`",
            "say `--public` twice if anybody may read this store",
        )
    if settings.token is not None and len(settings.token) < 8:
        raise InvalidQuery("a token has at least 8 characters", "python -c 'import secrets; …'")


def announced(uri: str, app: FastAPI) -> str:
    """What is served, where, and what is on, in a line."""
    settings: Settings = app.state.settings
    models = app.state.uploads.models.names
    allowed = "who has the token" if settings.token else "anybody"
    parts = [
        f"snapshot {app.state.work.snapshot().id}",
        f"uploads embedded by {', '.join(models)}" if models else "uploads are not embedded",
        "SQL on" if settings.sql else "SQL off",
        f"for {'this machine' if settings.is_local else allowed}",
    ]
    return f"{uri} at {settings.url} ({'; '.join(parts)})"


class Server(uvicorn.Server):
    """uvicorn's, whose requests learn at once that it ends."""

    work: Work

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's."""
        self.work.close()
        await super().shutdown(sockets)


def configuration(app: object, settings: Settings) -> uvicorn.Config:
    """How uvicorn is to run the service."""
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        http=Connection,
        ws="none",
        limit_concurrency=settings.connections,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=16 << 10,
    )


def log_to_stderr(access: bool) -> None:
    """Errors with their ids, and a line a request."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    for name, level in (
        ("platonic_store.access", logging.INFO if access else logging.WARNING),
        ("platonic_store.service", logging.WARNING),
        ("uvicorn.error", logging.ERROR),
        ("asyncio", logging.ERROR),
    ):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False


def listen(settings: Settings) -> socket.socket:
    """The socket of a service. Raises: InvalidQuery."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise InvalidQuery(
            f"cannot listen at {settings.url}: {error.strerror}", "choose another `--port`"
        ) from None
    return listener


def allow_connections(settings: Settings) -> None:
    """Let this process open as many files as its connections and the store need."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.connections + 1_024
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def serve(store: Store, settings: Settings, *, access_log: bool = True) -> None:
    """Serve a store until SIGINT or SIGTERM. Raises: what `create_app` raises, InvalidQuery."""
    require_safe(settings)
    log_to_stderr(access_log)
    allow_connections(settings)
    # Answers share the cores already: within one of them BLAS would wait for the others.
    threadpool_limits(1, "blas")
    # After each send and receive the loop waits so long for a thread that computes in Python.
    sys.setswitchinterval(SWITCH_SECONDS)
    with listen(settings) as listener:
        app = create_app(store, settings)
        server = Server(configuration(app, settings))
        server.work = app.state.work
        app.state.uploads.start()
        say(announced(store.location.uri, app))
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    logging.shutdown()
    if app.state.work.busy_threads:
        # A thread deep in numpy is not waited for.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
