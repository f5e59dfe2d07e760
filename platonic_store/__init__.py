"""platonic-store: what foundation interatomic potentials know of every crystal, in one space."""

import logging as _logging
from importlib.metadata import version as _version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from platonic_store.store import Store

__version__ = _version("platonic-store")
# A library is silent where no program asks for its log.
_logging.getLogger(__name__).addHandler(_logging.NullHandler())
__all__ = ["Store", "__version__"]


def __getattr__(name: str) -> type:
    # Store pulls in Arrow, DuckDB and Lance: a second that `--help` need not wait for.
    if name == "Store":
        from platonic_store.store import Store

        return Store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
