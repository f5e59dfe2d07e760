"""The explorer of a store from Python: in a notebook, or in the browser."""

import atexit
import html
import sys
import threading
import time
import webbrowser
from typing import TYPE_CHECKING

from platonic_store.errors import ServiceBusy

if TYPE_CHECKING:
    import uvicorn

    from platonic_store.store import Store

_START_SECONDS = 30
_STOP_SECONDS = 10
_shown: "dict[Store, Shown]" = {}


class Shown:
    """The page of a store, served by this process at `url` until it ends."""

    def __init__(self, url: str):
        self.url = url

    def __repr__(self) -> str:
        return f"the explorer at {self.url}"

    def _repr_html_(self) -> str:
        url = html.escape(self.url, quote=True)
        return (
            f'<iframe src="{url}" title="explorer" width="100%" height="900" '
            f'style="border: 0"></iframe><p><a href="{url}" target="_blank">{url}</a></p>'
        )


def explore(store: "Store") -> Shown:
    """Serve the page from this process; a notebook shows it, elsewhere the browser opens it.

    Raises: StoreNotFound, ServiceBusy.
    """
    if store not in _shown:
        _shown[store] = Shown(_serve(store))
    return show(_shown[store])


def show(page: Shown) -> Shown:
    """A page that is served, which a notebook shows; elsewhere the browser opens it."""
    if not _is_notebook():
        webbrowser.open(page.url)
    return page


def _serve(store: "Store") -> str:
    """The URL of a service in a thread that ends with the process."""
    import uvicorn

    from platonic_store.service.app import create_app
    from platonic_store.service.settings import Settings

    app = create_app(store, Settings())
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, name="explorer", daemon=True)
    thread.start()
    atexit.register(_stop, server, thread)
    end = time.monotonic() + _START_SECONDS
    while not server.started:
        if time.monotonic() > end:
            raise ServiceBusy("the explorer did not start", "try again later")
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    return f"http://127.0.0.1:{port}/"


def _stop(server: "uvicorn.Server", thread: threading.Thread) -> None:
    """End the service, and the processes that embed for it."""
    server.should_exit = True
    thread.join(_STOP_SECONDS)


def _is_notebook() -> bool:
    """Whether a notebook's kernel runs this."""
    return "ipykernel" in sys.modules
