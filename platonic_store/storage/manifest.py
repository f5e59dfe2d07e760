"""Snapshots as values: a manifest names every file of one state of a store, and its checksum.

A commit is the creation of the next manifest, which only one writer can do. What no manifest names
does not exist.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

from platonic_store.errors import Call, SnapshotNotFound, StoreDamaged, StoreTooNew
from platonic_store.storage.location import Location

FOLDER: Final = "manifests"
# A copy of the newest manifest, as last noted. Those after it are looked for one by one.
NEWEST: Final = f"{FOLDER}/newest.json"
FORMAT: Final = 1
_BLOCK: Final = 1 << 20


class StoredFile(NamedTuple):
    """A file of the store that never changes. path: relative to the store."""

    path: str
    size: int
    sha256: str


class VectorFiles(NamedTuple):
    """A Lance table at one of its versions."""

    version: int
    rows: int
    files: list[StoredFile]


@dataclass(frozen=True)
class Manifest:
    """A snapshot.

    Attributes:
        id: its number. Each snapshot has the number after its parent's.
        parent: the snapshot that it was made from, None for the first.
        store: names the store, whatever its place; copies have the same.
        writer: the lease under which it was written.
        created_at: ISO 8601, UTC.
        change: what the writer did, in a line.
        revision: of the catalogue's tables.
        structures: how many it holds.
        catalog: the DuckDB file.
        rows: the Parquet files of each table of bulk rows.
        vectors: the Lance tables by name.
        is_copy: whether it was copied from another place of the store.
    """

    id: int
    parent: int | None
    store: str
    writer: str
    created_at: str
    change: str
    revision: str
    structures: int
    catalog: StoredFile
    rows: dict[str, list[StoredFile]] = field(default_factory=dict)
    vectors: dict[str, VectorFiles] = field(default_factory=dict)
    is_copy: bool = False

    def files(self) -> list[StoredFile]:
        """Every file of the snapshot but its manifest."""
        bulk = [file for files in self.rows.values() for file in files]
        lance = [file for table in self.vectors.values() for file in table.files]
        return [self.catalog, *bulk, *lance]


def empty() -> Manifest:
    """What the first snapshot of a new store is made from; it is not published."""
    return Manifest(0, None, uuid4().hex, "", "", "", "", 0, StoredFile("", 0, ""))


def key(id: int) -> str:
    """Where the manifest of a snapshot is."""
    return f"{FOLDER}/{id:08}.json"


def to_bytes(manifest: Manifest) -> bytes:
    """JSON with a checksum of itself."""
    content = asdict(manifest)
    return json.dumps(
        {"format": FORMAT, "sha256": _checksum(content), "snapshot": content}
    ).encode()


def from_bytes(data: bytes, name: str) -> Manifest:
    """name: what errors call it.

    Raises: StoreDamaged, StoreTooNew.
    """
    try:
        document = json.loads(data)
        content: dict[str, Any] = document["snapshot"]
        is_whole = document["format"] > FORMAT or document["sha256"] == _checksum(content)
    except (ValueError, KeyError, TypeError):
        is_whole = False
    if not is_whole:
        raise StoreDamaged(
            f"{name} is damaged: its checksum does not fit", Call("doctor", deep=True, repair=True)
        )
    if document["format"] > FORMAT:
        raise StoreTooNew(
            f"{name} was written by a newer platonic-store", "install the newest platonic-store"
        )
    return Manifest(
        **content
        | {
            "catalog": StoredFile(*content["catalog"]),
            "rows": {name: _files(files) for name, files in content["rows"].items()},
            "vectors": {
                name: VectorFiles(version, rows, _files(files))
                for name, (version, rows, files) in content["vectors"].items()
            },
        }
    )


def _files(rows: list[list[Any]]) -> list[StoredFile]:
    return [StoredFile(*row) for row in rows]


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load(location: Location, id: int) -> Manifest:
    """Raises: SnapshotNotFound, StoreDamaged, StoreTooNew."""
    try:
        data = location.read(key(id))
    except FileNotFoundError:
        raise SnapshotNotFound(
            f"the store at {location.uri} has no snapshot {id}", Call("snapshots")
        ) from None
    return from_bytes(data, f"manifest {id} of {location.uri}")


def create(location: Location, manifest: Manifest) -> bool:
    """Commit a snapshot; False if another of its number is there already."""
    return location.create(key(manifest.id), to_bytes(manifest))


def note_newest(location: Location, manifest: Manifest) -> None:
    """Have readers find the newest snapshot at once."""
    location.write(NEWEST, to_bytes(manifest))


def noted(location: Location) -> Manifest | None:
    """The manifest that was last noted as the newest."""
    try:
        return from_bytes(location.read(NEWEST), NEWEST)
    except (FileNotFoundError, StoreDamaged):
        return None


def newest_id(location: Location) -> int:
    """The number of the newest snapshot, 0 if there is none."""
    start = noted(location)
    if start is None and location.writable:
        return max(times(location), default=0)
    id = start.id if start else 0
    while location.exists(key(id + 1)):
        id += 1
    return id


def times(location: Location) -> dict[int, datetime]:
    """When each snapshot that is kept was published, by the store's clock; by number, ascending."""
    entries = {Path(entry.key).stem: entry.modified for entry in location.names(f"{FOLDER}/")}
    return {int(stem): entries[stem] for stem in sorted(entries) if stem.isdigit()}


def ids(location: Location) -> list[int]:
    """The numbers of all snapshots that are kept, ascending.

    Where nothing can be listed, such as by http, those that follow each other up to the newest.
    """
    if location.writable:
        return list(times(location))
    last = newest_id(location)
    first = last
    while first > 1 and location.exists(key(first - 1)):
        first -= 1
    return list(range(first, last + 1)) if last else []


def describe(path: Path, name: str) -> StoredFile:
    """The size and the checksum of a local file that the store calls `name`."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
        return StoredFile(name, file.tell(), digest.hexdigest())


def now() -> str:
    """UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
