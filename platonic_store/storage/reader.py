"""The snapshots of a store, opened: the newest, or an earlier one."""

import threading
import time
from collections.abc import Mapping
from typing import Final

import duckdb

from platonic_store.errors import Call, StoreDamaged, StoreNotFound
from platonic_store.storage import manifest
from platonic_store.storage.files import Files
from platonic_store.storage.location import Location
from platonic_store.storage.manifest import Manifest
from platonic_store.storage.snapshot import Snapshot
from platonic_store.storage.sqltext import one_line

# After this time the newest snapshot is looked for from the start: those that follow the known one
# may be gone.
_TRUST_SECONDS: Final = 300.0


class Reader:
    """What reads a store; threads may share it. at: the number of the one snapshot it reads.

    memory: what DuckDB may take at most for a snapshot, such as "2GB".
    references: what its snapshots may be compared with; see `Snapshot`.
    """

    def __init__(
        self,
        location: Location,
        at: int | None = None,
        *,
        memory: str | None = None,
        references: Mapping[str, Snapshot] | None = None,
    ):
        self.location, self.at, self.memory = location, at, memory
        self.references = dict(references or {})
        self.files = Files(location)
        self._lock = threading.Lock()
        self._newest: Manifest | None = None
        self._identity: tuple[int, int] | None = None
        self._looked_at = 0.0
        self._snapshot: Snapshot | None = None

    def newest_manifest(self) -> Manifest | None:
        """The newest snapshot's, None if nothing was ever published.

        Raises: StoreDamaged, StoreTooNew, StoreUnreachable.
        """
        with self._lock:
            return self._look()

    def _look(self) -> Manifest | None:
        """One small read where nothing was published since the last look."""
        known = self._newest
        if known is not None and self._is_recent(known):
            newest = known.id
            while self.location.exists(manifest.key(newest + 1)):
                newest += 1
        else:
            known, newest = None, manifest.newest_id(self.location)
            self._looked_at = time.monotonic()
        if known is None or known.id != newest:
            loaded = manifest.load(self.location, newest) if newest else None
            if loaded != self._newest:  # else the snapshot that is open is still the newest
                self._newest = loaded
            self._identity = self._identify(newest)
        return self._newest

    def _is_recent(self, known: Manifest) -> bool:
        if time.monotonic() - self._looked_at > _TRUST_SECONDS:
            return False
        return self._identify(known.id) == self._identity

    def _identify(self, id: int) -> tuple[int, int] | None:
        """Of a manifest on a disk, and not of another that was made in the same place."""
        if self.location.folder is None:
            return None
        try:
            found = (self.location.folder / manifest.key(id)).stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_ctime_ns

    def snapshot(self) -> Snapshot:
        """The newest snapshot, or the one that this reader is for: the same object while it is.

        Raises: StoreNotFound, SnapshotNotFound, StoreDamaged, StoreTooNew, StoreUnreachable.
        """
        with self._lock:
            if self.at is None:
                wanted = self._look()
            elif self._snapshot is not None:
                wanted = self._snapshot.manifest
            else:
                wanted = manifest.load(self.location, self.at)
            if wanted is None:
                raise StoreNotFound(
                    f"there is no store at {self.location.uri}",
                    Call("ingest", "SOURCE", models=["sevennet-0"]),
                )
            if self._snapshot is None or self._snapshot.manifest is not wanted:
                self._snapshot = self.open(wanted)
            self.files.keep(wanted)
            return self._snapshot

    def open(self, wanted: Manifest, *, allow_files: bool = False) -> Snapshot:
        """A snapshot in a DuckDB instance that nobody else has.

        Raises: StoreDamaged, StoreTooNew, StoreUnreachable.
        """
        try:
            return Snapshot(
                wanted,
                self.files,
                allow_files=allow_files,
                memory=self.memory,
                references=self.references,
            )
        except duckdb.IOException as error:
            raise StoreDamaged(
                f"snapshot {wanted.id} of {self.location.uri} cannot be opened: {one_line(error)}",
                Call("doctor", deep=True, repair=True),
            ) from None
