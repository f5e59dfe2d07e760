"""A service as `platonic-store serve` runs it, in this process, and a structure to send it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from cifs import cif

from platonic_store.service.app import create_app
from platonic_store.service.run import Server, configuration, listen
from platonic_store.service.settings import Settings
from platonic_store.store import Store

NACL = cif("Na Na 0 0 0 1\nCl Cl 0.5 0.5 0.5 1", 5.64, "_symmetry_space_group_name_H-M 'F m -3 m'")


@contextmanager
def running(store: Store, **settings) -> Iterator[httpx.Client]:
    """A service as `platonic-store serve` runs it, on a free port, and a client of it."""
    given = Settings(port=0, **{"models": (), **settings})
    listener = listen(given)
    app = create_app(store, given)
    server = Server(configuration(app, given))
    server.work = app.state.work
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, timeout=60) as client:
            client.app, client.url = app, url
            yield client
    finally:
        server.should_exit = True
        thread.join()
