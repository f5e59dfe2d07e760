"""The files of a store on this machine: a disk's own, or a mirror of those that a query needs."""

import math
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from platonic_store.errors import Call, InvalidQuery, StoreDamaged, StoreTooNew
from platonic_store.runtimes import user_dirs
from platonic_store.storage.location import Location
from platonic_store.storage.manifest import Manifest, StoredFile, describe
from platonic_store.storage.revision import REVISION

# What the mirrors of all stores may take, in GB; `PLATONIC_STORE_CACHE_GB` sets another limit.
CACHE_GB: Final = 10.0
# A query that runs may still open what was read within this time.
_IN_USE_SECONDS: Final = 3600
_THREADS: Final = 8


class Files:
    """The files of the store at a location."""

    def __init__(self, location: Location):
        self.location = location
        self._used: dict[int, set[Path]] = {}
        self._kept_at = time.monotonic()

    def path(self, manifest: Manifest, file: StoredFile) -> Path:
        """A file of a snapshot on this machine; see `paths`."""
        return self.paths(manifest, [file])[0]

    def paths(self, manifest: Manifest, files: Sequence[StoredFile]) -> list[Path]:
        """Files of a snapshot on this machine, brought here first if need be.

        Raises: StoreDamaged if one is not what the manifest says; StoreUnreachable.
        """
        if self.location.folder is not None:
            return [self.location.folder / file.path for file in files]
        mirror = mirrors() / manifest.store
        missing = [file for file in files if not _is_here(mirror / file.path, file)]
        if missing:
            _make_room(sum(file.size for file in missing))
            with ThreadPoolExecutor(_THREADS) as threads:
                list(threads.map(lambda file: self._bring(file, mirror / file.path), missing))
        found = [mirror / file.path for file in files]
        self._used.setdefault(manifest.id, set()).update(found)
        return found

    def _bring(self, file: StoredFile, local: Path) -> None:
        unchecked = mirrors() / "partial" / uuid4().hex
        try:
            self.location.download(file.path, unchecked)
            is_whole = describe(unchecked, file.path) == file
            if is_whole:
                local.parent.mkdir(parents=True, exist_ok=True)
                unchecked.replace(local)
        except FileNotFoundError:
            is_whole = False
        finally:
            unchecked.unlink(missing_ok=True)
        if not is_whole:
            raise StoreDamaged(
                f"{file.path} of {self.location.uri} is not what its manifest says",
                Call("doctor", deep=True, repair=True),
            )

    def keep(self, manifest: Manifest) -> None:
        """Say that a snapshot is in use still, so that its files stay on this machine."""
        if time.monotonic() - self._kept_at > _IN_USE_SECONDS / 6:
            self._kept_at = time.monotonic()
            for path in self._used.get(manifest.id, ()):
                with suppress(FileNotFoundError):
                    os.utime(path)

    def catalog(self, manifest: Manifest) -> Path:
        """The catalogue of a snapshot; of an older revision, a copy that was brought to today's.

        Raises: StoreTooNew, and as `path`.
        """
        path = self.path(manifest, manifest.catalog)
        if manifest.revision == REVISION:
            return path
        self.require_known(manifest)
        renewed = mirrors() / manifest.store / "renewed" / f"{REVISION}-{path.name}"
        if not renewed.exists():
            from platonic_store.storage.migrate import upgrade_file

            renewed.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=renewed.parent) as folder:
                partial = Path(folder) / path.name
                shutil.copyfile(path, partial)
                upgrade_file(partial)
                partial.replace(renewed)
        return renewed

    def require_known(self, manifest: Manifest) -> None:
        """Raises: StoreTooNew if this program does not know its catalogue's tables."""
        if manifest.revision > REVISION:
            raise StoreTooNew(
                f"the store at {self.location.uri} was made by a newer platonic-store (catalogue "
                f"revision {manifest.revision}, this program knows {REVISION})",
                "install the newest platonic-store",
            )

    def table(self, manifest: Manifest, name: str) -> tuple[str, dict[str, str] | None]:
        """Where Lance opens a vector table of a snapshot, and its storage options.

        Raises: InvalidQuery if it can only be mirrored and is larger than the limit.
        """
        if self.location.folder is not None:
            return self.location.lance_uri(name), None
        files = manifest.vectors[name].files
        size = sum(file.size for file in files)
        if size > limit_bytes():
            if not self.location.writable:
                raise InvalidQuery(
                    f"{name} has {size / 1e9:.2g} GB, more than the cache may hold",
                    "set PLATONIC_STORE_CACHE_GB to more",
                )
            return self.location.lance_uri(name), self.location.lance_options
        self.paths(manifest, files)
        return str(mirrors() / manifest.store / "vectors" / f"{name}.lance"), None


def _is_here(local: Path, file: StoredFile) -> bool:
    """Whether a file was brought here before."""
    try:
        if local.stat().st_size != file.size:
            return False
        # What all else hangs on is small. Lance numbers its versions: a table that was made anew
        # may have had the same ones.
        is_checked = file.path.startswith("catalog/") or "/_versions/" in file.path
        if is_checked and describe(local, file.path) != file:
            return False
        os.utime(local)
    except FileNotFoundError:
        return False
    return True


def mirrors() -> Path:
    """The folder of the mirrors, one a store."""
    return user_dirs.cache() / "stores"


def limit_bytes(environment: Mapping[str, str] = os.environ) -> float:
    """Raises: InvalidQuery if the limit that is set is no size."""
    text = environment.get("PLATONIC_STORE_CACHE_GB") or str(CACHE_GB)
    try:
        limit = float(text) * 1e9
    except ValueError:
        limit = math.nan
    if not limit >= 0:
        raise InvalidQuery(
            f"PLATONIC_STORE_CACHE_GB is {text!r}, not a number", "set a number of gigabytes"
        )
    return limit


def _make_room(size: int) -> None:
    """Remove what was not used for longest, to stay within the limit; nothing that is in use."""
    found: list[tuple[float, int, Path]] = []
    for path in mirrors().rglob("*"):
        with suppress(FileNotFoundError):  # removed since
            if stat.S_ISREG((status := path.stat()).st_mode):
                found.append((status.st_mtime, status.st_size, path))
    total = size + sum(bytes for _, bytes, _ in found)
    for used_at, bytes, path in sorted(found):
        if total <= limit_bytes() or time.time() - used_at < _IN_USE_SECONDS:
            return
        path.unlink(missing_ok=True)
        total -= bytes
