"""Packages imported without those of their parts that embedding does not need: they take seconds.

For the imports of an adapter, in a process that runs one model and does nothing else.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from unittest.mock import patch


@contextmanager
def without(*modules: str) -> Iterator[None]:
    """In the block these modules are empty: all that is imported from them is None."""
    absent = [name for name in modules if name not in sys.modules]
    for name in absent:
        sys.modules[name] = empty = ModuleType(name)
        empty.__getattr__ = _nothing  # type: ignore[method-assign]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


@contextmanager
def never_compiled() -> Iterator[None]:
    """In the block `torch.compiler.disable` does nothing: it would import all of the compiler."""
    import torch.compiler

    with patch.object(torch.compiler, "disable", lambda function=None, **_: function):
        yield


def _nothing(name: str) -> None:
    if name.startswith("__"):
        raise AttributeError(name)
