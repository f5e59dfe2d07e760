from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
from service_driver import running


@pytest.fixture(scope="session")
def client(service) -> Iterator[httpx.Client]:
    """Of the session's service, which answers SQL and embeds nothing."""
    with httpx.Client(base_url=service, timeout=60) as found:
        yield found


@pytest.fixture
def serve(prototypes) -> Iterator[Callable[..., httpx.Client]]:
    """Starts a service with other settings."""
    with ExitStack() as stack:
        yield lambda store=prototypes, **given: stack.enter_context(running(store, **given))
