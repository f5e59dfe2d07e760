"""The catalogue as readers see it: immutable copies in a folder, numbered; the highest is newest.

The writer alone opens its working file, and publishes a copy when readers shall see what it did.
So no reader ever waits for a writer, nor a writer for a reader.
"""

import errno
import logging
import shutil
import time
from datetime import timedelta
from pathlib import Path

from platonic_store.storage import disk

_log = logging.getLogger(__name__)

# Readers open the newest. An older one may still be open on a file system that forgets what is
# removed, such as NFS: it is kept as long as a query may take, unless much disk goes for that.
KEEP = timedelta(hours=1)
KEEP_BYTES = 64 << 20


def newest(folder: Path) -> Path | None:
    """The newest published file, None if there is none."""
    files = _files(folder)
    return files[-1] if files else None


def is_published(working: Path, folder: Path) -> bool:
    """Whether readers see all that the working file holds.

    A published file has the size and the time of change of what it is a copy of.
    """
    file = newest(folder)
    if file is None or log_of(working).exists():
        return False
    mine, theirs = working.stat(), file.stat()
    return (mine.st_mtime_ns, mine.st_size) == (theirs.st_mtime_ns, theirs.st_size)


def publish(working: Path, folder: Path) -> Path:
    """Make the working file's state, which nobody may have open, the newest published one."""
    if log_of(working).exists():
        raise RuntimeError(f"{working} is open, or has not been closed properly")
    folder.mkdir(exist_ok=True)
    last = newest(folder)
    file = folder / f"{int(last.stem) + 1 if last else 1:06}.duckdb"
    partial = file.with_suffix(".duckdb.partial")
    try:
        _copy(working, partial)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _forget_old(folder, keep_bytes=0)
        _copy(working, partial)
    partial.rename(file)
    disk.sync(folder)
    _log.info("published %s", file)
    _forget_old(folder, KEEP_BYTES)
    return file


def _copy(working: Path, partial: Path) -> None:
    shutil.copy2(working, partial)
    disk.sync(partial)


def log_of(working: Path) -> Path:
    """Where DuckDB keeps what it has committed and not yet written into the file itself."""
    return working.with_name(f"{working.name}.wal")


def _files(folder: Path) -> list[Path]:
    """All published files, from the first to the newest."""
    files = [file for file in folder.glob("*.duckdb") if file.stem.isdigit()]
    return sorted(files, key=lambda file: int(file.stem))


def _forget_old(folder: Path, keep_bytes: int) -> None:
    files = _files(folder)
    now, size = time.time(), 0
    for later in range(len(files) - 1, 0, -1):
        size += files[later - 1].stat().st_size
        # Not its own age: it was the newest until its successor came.
        if now - files[later].stat().st_ctime > KEEP.total_seconds() or size > keep_bytes:
            for file in files[:later]:
                file.unlink()
            return
