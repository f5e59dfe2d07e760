"""Places in the commit protocol where a writer can be made to die."""

import functools
from collections.abc import Callable
from contextlib import contextmanager

from platonic_store.storage import published
from platonic_store.storage.catalog import Catalog
from platonic_store.storage.vectors import Vectors


def install(reached: Callable[[str], None], patch=setattr) -> None:
    """Call `reached` before and after every write to Lance or the catalogue, and its publishing."""
    for name in ("create", "append", "delete", "maintain", "forget_old_versions"):
        patch(Vectors, name, _around(getattr(Vectors, name), name, reached))
    writing = Catalog.writing

    @contextmanager
    def watched(self):
        reached("before a transaction")
        with writing(self) as connection:
            yield connection
            reached("before its commit")
        reached("after a transaction")

    patch(Catalog, "writing", watched)
    patch(Catalog, "publish", _around(Catalog.publish, "publish", reached))
    patch(published, "_copy", _around(published._copy, "its copy", reached))


def _around(function: Callable, name: str, reached: Callable[[str], None]) -> Callable:
    @functools.wraps(function)
    def wrapped(*arguments):
        reached(f"before {name}")
        result = function(*arguments)
        reached(f"after {name}")
        return result

    return wrapped
