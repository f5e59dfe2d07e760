"""Where the files of a store live: a folder of this machine, an object store, a web server.

A key is a relative path with `/` between its parts. What a method writes is durable when it
returns, and no reader ever sees half of it.
"""

import errno
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple
from uuid import uuid4

from platonic_store.storage.disk import refusals, sync

_NO_HARD_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV, errno.EMLINK)
_NO_COPY_RANGE: Final = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EXDEV, errno.EPERM)


class Entry(NamedTuple):
    """A file of a store: its key, size in bytes, and when it was written by the store's clock."""

    key: str
    size: int
    modified: datetime


class Location(ABC):
    """Where the files of a store live.

    uri: without credentials. folder: of a disk, else None. writable: False of a web server.
    lance_options: the storage options that Lance needs for `lance_uri`, None on a disk.
    """

    uri: str
    folder: Path | None = None
    writable: bool = True
    lance_options: dict[str, str] | None = None

    @abstractmethod
    def read(self, key: str) -> bytes:
        """The bytes of a file. Raises: FileNotFoundError, StoreUnreachable."""

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Make a file if there is none; False if there is one already.

        Of several who create the same key one alone gets True. An answer that was lost on the way
        says "there is one" when it is asked for again; so a file with exactly these bytes counts
        as made by this call. That is sound as long as no two writers write the same bytes:
        manifests and leases hold an id of their writer.
        """

    @abstractmethod
    def write(self, key: str, data: bytes) -> None:
        """Make a file or replace it as a whole."""

    @abstractmethod
    def upload(self, key: str, path: Path) -> None:
        """Make a file, or replace it, from a local one; never in memory as a whole."""

    @abstractmethod
    def download(self, key: str, path: Path) -> None:
        """Copy a file to a local path, which exists only when it is complete.

        Raises: FileNotFoundError, StoreUnreachable.
        """

    @contextmanager
    def fetched(self, key: str) -> Iterator[Path]:
        """A file as one of this machine: a disk's own, else a copy that goes at the end.

        Raises: FileNotFoundError, StoreUnreachable.
        """
        with TemporaryDirectory(prefix="platonic-store-") as folder:
            local = Path(folder) / "file"
            self.download(key, local)
            yield local

    @abstractmethod
    def names(self, prefix: str) -> list[Entry]:
        """All files below a folder, by key; none if there is no such folder."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether there is such a file."""

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Remove files; those that do not exist are passed over."""

    @abstractmethod
    def require_conditional_create(self) -> None:
        """Try whether `create` refuses what exists.

        Raises: StoreNotWritable, for an object store that overwrites it in silence.
        """

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what Lance says of a server that does not answer into one clear line.

        Raises: StoreUnreachable.
        """
        yield

    def lance_uri(self, name: str) -> str:
        """Where the Lance table of that name is, for `lance.dataset`."""
        return f"{self.uri}/vectors/{name}.lance"


class Disk(Location):
    """A folder of this machine, or one that is mounted there.

    Files are written under `partial/` first; what a killed process left there can be deleted.
    """

    folder: Path

    def __init__(self, folder: Path):
        self.folder = folder
        self.uri = str(folder)

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return type(self), (self.folder.absolute(),)

    def _path(self, key: str) -> Path:
        if Path(key).is_absolute() or ".." in Path(key).parts:
            raise ValueError(f"{key!r} is not a key of a store")
        return self.folder / key

    def _partial(self) -> Path:
        return self.folder / "partial" / uuid4().hex

    def read(self, key: str) -> bytes:
        return self._path(key).read_bytes()

    def create(self, key: str, data: bytes) -> bool:
        """As `Location.create`, by a hard link to a complete file.

        Where the file system refuses hard links, readers may see the file before it is complete.
        """
        path, partial = self._path(key), self._partial()
        with refusals(self.folder):
            make_folder(partial.parent)
            make_folder(path.parent)
            try:
                _write(partial, data)
                made = _link(partial, path)
            finally:
                partial.unlink(missing_ok=True)
            sync(path.parent)
        return made or self.read(key) == data

    def write(self, key: str, data: bytes) -> None:
        path = self._path(key)
        with refusals(self.folder), completed(path, self._partial()) as partial:
            partial.write_bytes(data)

    def upload(self, key: str, path: Path) -> None:
        target = self._path(key)
        with refusals(self.folder), completed(target, self._partial()) as partial:
            _copy(path, partial)

    def download(self, key: str, path: Path) -> None:
        source = self._path(key)
        if not source.exists():
            raise FileNotFoundError(f"no {key} in {self.uri}")
        with refusals(path), completed(path) as partial:
            _copy(source, partial)

    @contextmanager
    def fetched(self, key: str) -> Iterator[Path]:
        path = self._path(key)
        if not path.exists():
            raise FileNotFoundError(f"no {key} in {self.uri}")
        yield path

    def names(self, prefix: str) -> list[Entry]:
        entries = []
        for folder, _, files in os.walk(self._path(prefix)):
            for path in (Path(folder, name) for name in files):
                try:
                    status = path.stat()
                except FileNotFoundError:  # deleted since
                    continue
                modified = datetime.fromtimestamp(status.st_mtime, UTC)
                key = path.relative_to(self.folder).as_posix()
                entries.append(Entry(key, status.st_size, modified))
        return sorted(entries)

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def delete(self, keys: Iterable[str]) -> None:
        with refusals(self.folder):
            for key in keys:
                self._path(key).unlink(missing_ok=True)

    def require_conditional_create(self) -> None:
        """Nothing to try: a disk does."""

    def lance_uri(self, name: str) -> str:
        return str(self.folder / "vectors" / f"{name}.lance")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, and have their names on the disk."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


@contextmanager
def completed(path: Path, partial: Path | None = None) -> Iterator[Path]:
    """A name to write a file under, which is `path` once the file is complete and on the disk."""
    partial = partial or path.with_name(f".{path.name}.{uuid4().hex}.partial")
    make_folder(path.parent)
    make_folder(partial.parent)
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


def _write(path: Path, data: bytes) -> None:
    """Write a file that does not exist, so that it is on the disk."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _link(partial: Path, path: Path) -> bool:
    """Give a complete file a second name; False if the name is taken."""
    try:
        path.hardlink_to(partial)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        return _create(path, partial.read_bytes())
    return True


def _create(path: Path, data: bytes) -> bool:
    """Write a file, if there is none, on a file system without hard links."""
    try:
        _write(path, data)
    except FileExistsError:
        return False
    except BaseException:
        path.unlink()
        raise
    return True


def _copy(source: Path, target: Path) -> None:
    """Copy a file, sharing its blocks where the file system can (Btrfs, XFS)."""
    try:
        with source.open("rb") as read, target.open("wb") as write:
            left = source.stat().st_size
            while left > 0:
                copied = os.copy_file_range(read.fileno(), write.fileno(), left)
                if not copied:
                    raise OSError(errno.EINVAL, "the file became shorter")
                left -= copied
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_COPY_RANGE:
            raise
        shutil.copyfile(source, target)
