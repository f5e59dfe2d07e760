"""Lance tables, written: fragments first, which nobody sees, then one commit for all of them.

Lance never changes a file. What is named by no manifest of the store may be written again.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import pyarrow as pa

from platonic_store.errors import LeaseLost
from platonic_store.storage import bulk, disk
from platonic_store.storage.location import Location
from platonic_store.storage.manifest import StoredFile, VectorFiles, describe
from platonic_store.storage.vector_index import keep_indexed

if TYPE_CHECKING:
    from lance import (  # type: ignore[attr-defined]  # of Session, which is documented there
        FragmentMetadata,
        LanceDataset,
        LanceFragment,
        Session,
    )

# Lance reads it when it is imported, and would warn that a new table is new.
os.environ.setdefault("LANCE_LOG", "error")

Options = dict[str, str] | None

# Lance's 2.3 files make DuckDB's Lance extension panic.
_STORAGE_VERSION: Final = "2.2"
MOST_FRAGMENTS = 64
FRAGMENT_ROWS = 1 << 22  # to read rows of each takes a while: few and large
# What readers keep in memory of indices, and of the files' own descriptions.
INDEX_BYTES: Final = 4 << 30
FILES_BYTES: Final = 1 << 28
# What maintenance keeps of an index: to measure one asks for most of its lists, each a few times.
MAINTAINED_BYTES: Final = 1 << 27
# How often a commit is made again beside a writer who does not know yet that it lost the lease.
_ATTEMPTS: Final = 5


class Deletion(NamedTuple):
    """Rows of a table to be deleted: its fragments as they shall be, and those that go whole.

    rows: how many go.
    """

    changed: "list[FragmentMetadata]"
    gone: list[int]
    condition: str
    rows: int


def open_table(
    uri: str,
    version: int | None = None,
    options: Options = None,
    session: "Session | None" = None,
) -> "LanceDataset":
    """A Lance table at a version, the newest if None. session: what is kept in memory of it."""
    import lance  # half a second that `--help` need not wait for

    return lance.dataset(uri, version=version, storage_options=options, session=session)


@lru_cache(maxsize=1)
def readers_session() -> "Session":
    """What all readers of this process keep of indices and files, which never change: a new version
    of a table begins with what is known of the one before.
    """
    import lance

    return lance.Session(  # type: ignore[attr-defined]
        index_cache_size_bytes=INDEX_BYTES, metadata_cache_size_bytes=FILES_BYTES
    )


def create(uri: str, made: pa.Schema, options: Options = None) -> int:
    """Make an empty table in the place of a left-over of that name; returns its version."""
    import lance

    table = lance.write_dataset(
        made.empty_table(),
        uri,
        mode="overwrite",
        data_storage_version=_STORAGE_VERSION,
        storage_options=options,
    )
    return table.version


def write_fragments(
    uri: str, rows: pa.Table | pa.RecordBatchReader, options: Options = None
) -> "list[FragmentMetadata]":
    """Write rows beside a table; they belong to it once they are committed."""
    from lance.fragment import write_fragments

    written = write_fragments(
        rows, uri, data_storage_version=_STORAGE_VERSION, storage_options=options
    )
    assert isinstance(written, list)
    return written


def rows_by_chunk(table: "LanceDataset", condition: str | None = None) -> dict[int, int]:
    """How many rows (of those that meet a condition) each chunk has in the table."""
    counts: Counter[int] = Counter()
    for batch in table.to_batches(columns=["chunk_id"], filter=condition):
        counts.update(batch["chunk_id"].to_pylist())
    return dict(counts)


def prepare_deletion(
    table: "LanceDataset", condition: str, damaged: Collection[int] = ()
) -> Deletion:
    """Mark the rows that meet a condition, and all of damaged fragments, by their numbers.

    They are gone once this is committed.
    """
    changed, gone, rows = [], [], 0
    for fragment in table.get_fragments():
        if fragment.fragment_id in damaged:
            rows += fragment.count_rows()
            gone.append(fragment.fragment_id)
        elif count := _count(fragment, condition):
            rows += count
            left = fragment.delete(condition)
            if left is None:
                gone.append(fragment.fragment_id)
            else:
                changed.append(left)
    return Deletion(changed, gone, condition, rows)


def _count(fragment: "LanceFragment", condition: str) -> int:
    # Its own `count_rows` keeps all threads waiting, the one that renews the lease among them.
    count: int = fragment.scanner(columns=[], with_row_id=True, filter=condition).count_rows()
    return count


def damaged_fragments(table: "LanceDataset", paths: Collection[str]) -> set[int]:
    """The numbers of the fragments with rows in some data files of the table, by their names."""
    return {
        fragment.fragment_id
        for fragment in table.get_fragments()
        if any(Path(file.path).name in paths for file in fragment.data_files())
    }


def structures_in(table: "LanceDataset", damaged: Collection[int]) -> set[str]:
    """The ids of all structures with rows in the other fragments."""
    whole = [one for one in table.get_fragments() if one.fragment_id not in damaged]
    ids: set[str] = set()
    for fragment in whole:
        for batch in fragment.to_batches(columns=["structure_id"]):
            ids.update(batch["structure_id"].to_pylist())
    return ids


def commit(
    uri: str,
    base: int,
    fragments: "list[FragmentMetadata]",
    deletions: list[Deletion],
    options: Options = None,
) -> "LanceDataset":
    """Make a version of a table from its version `base`, which need not be the newest any more.

    Raises: LeaseLost if another writer interfered.
    """
    for _ in range(_ATTEMPTS):
        with _conflicts():
            table, expected = _commit(uri, base, fragments, deletions, options)
            if table.count_rows() == expected:
                return table
    raise LeaseLost(f"another writer is writing to {uri}", "run the same again")


def _commit(
    uri: str,
    base: int,
    fragments: "list[FragmentMetadata]",
    deletions: list[Deletion],
    options: Options,
) -> "tuple[LanceDataset, int]":
    """The table, and how many rows it has if nobody else has written to it."""
    from lance import LanceDataset, LanceOperation

    table = open_table(uri, base, options)
    expected = table.count_rows()
    if table.latest_version != base:  # versions that no manifest names
        _restore(table)
        table = open_table(uri, None, options)
    for one in deletions:
        operation = LanceOperation.Delete(one.changed, one.gone, one.condition)
        table = LanceDataset.commit(
            uri, operation, read_version=table.version, storage_options=options
        )
        expected -= one.rows
    if fragments:
        table = LanceDataset.commit(
            uri,
            LanceOperation.Append(fragments),
            read_version=table.version,
            storage_options=options,
        )
        expected += sum(fragment.physical_rows for fragment in fragments)
    return table, expected


def is_fragmented(table: "LanceDataset") -> bool:
    """Whether a table has so many fragments that its manifests grow long."""
    return len(table.get_fragments()) > MOST_FRAGMENTS


@contextmanager
def _conflicts() -> Iterator[None]:
    """Pass over Lance's refusal to commit beside another writer."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if "conflict" not in str(error).lower():
            raise


def maintain(uri: str, version: int, options: Options = None) -> "LanceDataset":
    """Compact, index a large table, and bring its index up to date; returns it as it is then.

    It is as before where another writer interferes: maintenance can wait.
    """
    before = open_table(uri, version, options)
    with _conflicts():
        maintained = _maintain(uri, options)
        if maintained.count_rows() == before.count_rows():
            return maintained
    return before


def _maintain(uri: str, options: Options) -> "LanceDataset":
    import lance

    session = lance.Session(index_cache_size_bytes=MAINTAINED_BYTES)  # type: ignore[attr-defined]
    table = open_table(uri, None, options, session)
    if rows := _to_compact(table):
        table.optimize.compact_files(target_rows_per_fragment=rows)
        table = open_table(uri, None, options, session)
    keep_indexed(table)
    return open_table(uri, None, options)


def _to_compact(table: "LanceDataset") -> int:
    """Fragments with fewer rows than this are to be merged into ones of so many; 0 if none.

    They are the newest: appending a little to a large table does not write all of it again. Lance
    also writes those anew of which it has deleted one row in ten.
    """
    fragments = table.get_fragments()
    sizes = [one.physical_rows - one.num_deletions for one in fragments]
    full = max((place for place, size in enumerate(sizes) if size >= FRAGMENT_ROWS), default=-1)
    newest = sizes[full + 1 :]
    count = bulk.to_merge(newest)
    merged = sum(newest[-count:]) if count else 0
    thinned = [one.physical_rows for one in fragments if 10 * one.num_deletions > one.physical_rows]
    return min(max([merged, *thinned]), FRAGMENT_ROWS)


def _restore(table: "LanceDataset") -> None:
    restore: Callable[[], None] = table.restore  # Lance gives it no types
    restore()


def drop_index(uri: str, version: int, options: Options = None) -> int:
    """Drop the index of a version of a table; returns the version without."""
    table = open_table(uri, version, options)
    if table.latest_version != version:
        _restore(table)
        table = open_table(uri, None, options)
    for index in table.describe_indices():
        table.drop_index(index.name)
    return table.latest_version


def inventory(
    location: Location, name: str, table: "LanceDataset", known: Mapping[str, StoredFile]
) -> VectorFiles:
    """Every file of a version of a table with its checksum.

    known: files that were described before, by path.
    """
    version = table.version
    named = table.tracked_files(min_version=version).read_all().to_pylist()
    paths = [f"vectors/{name}.lance/{row['path']}" for row in named if row["version"] == version]
    files = [known.get(path) or _describe(location, path) for path in sorted(set(paths))]
    if location.folder is not None:
        new = (location.folder / file.path for file in files if file.path not in known)
        _sync_names(location.folder, new)
    return VectorFiles(version, table.count_rows(), files)


def data_paths(name: str, fragments: "Iterable[FragmentMetadata]") -> list[str]:
    """The keys of the data files of fragments."""
    names = (Path(file.path).name for one in fragments for file in one.files)
    return [f"vectors/{name}.lance/data/{file}" for file in names]


def describe_data(
    location: Location, name: str, fragments: "Iterable[FragmentMetadata]"
) -> list[StoredFile]:
    """The data files of fragments that were just written, read back, with their checksums."""
    files = [_describe(location, path) for path in data_paths(name, fragments)]
    if location.folder is not None:
        _sync_names(location.folder, (location.folder / file.path for file in files))
    return files


def _describe(location: Location, path: str) -> StoredFile:
    """Read back what Lance wrote, and have it on the disk."""
    with location.fetched(path) as local:
        if location.folder is not None:
            disk.sync(local)
        return describe(local, path)


def _sync_names(store: Path, files: Iterable[Path]) -> None:
    """Have the names of new files, and of the folders that Lance made for them, on the disk."""
    above = {folder for file in files for folder in file.parents}
    for folder in above - {*store.parents}:
        disk.sync(folder)
