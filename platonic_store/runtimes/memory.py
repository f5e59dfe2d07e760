"""Memory that was freed, and that allocators keep."""

import ctypes
from contextlib import suppress

import pyarrow as pa


def give_back() -> None:
    """Give freed memory back to the system: Arrow keeps it, and glibc for each thread by itself."""
    pa.default_memory_pool().release_unused()
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
