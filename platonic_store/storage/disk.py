"""Writing so that it is on the disk, and saying plainly when the disk refuses."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from platonic_store.errors import PlatonicError, StoreNotWritable, disk_refusal


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, written to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def refusals(path: Path | str) -> Iterator[None]:
    """Turn what a library says of a full or read-only disk into one clear line.

    Raises: StoreNotWritable.
    """
    try:
        yield
    except PlatonicError:
        raise
    except Exception as error:
        if refused := disk_refusal(error):
            raise StoreNotWritable(
                f"cannot write {path}: {refused}; nothing committed was lost",
                "free the disk or the permission and do the same again",
            ) from None
        raise
