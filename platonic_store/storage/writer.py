"""The one writer of a store: transactions over catalogue, vectors and bulk rows, published at once.

The writer works on a copy of the newest catalogue that nobody else sees. Rows go to files that no
manifest names yet. To publish is to name all of it in the next manifest: until then nothing is
acknowledged, and what a killed writer leaves does not exist.
"""

import logging
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from platonic_store import progress
from platonic_store.errors import LeaseLost, PlatonicError
from platonic_store.storage import bulk, disk, lance_tables, manifest, migrate
from platonic_store.storage import tables as t
from platonic_store.storage.cleanup import clean_up
from platonic_store.storage.interrupts import uninterrupted
from platonic_store.storage.lance_tables import Deletion
from platonic_store.storage.lease import Lease
from platonic_store.storage.manifest import Manifest, StoredFile, VectorFiles, describe
from platonic_store.storage.reader import Reader
from platonic_store.storage.revision import REVISION
from platonic_store.storage.snapshot import Snapshot
from platonic_store.storage.sqltext import NO_BAR, literals

if TYPE_CHECKING:
    from lance import FragmentMetadata, LanceDataset

_log = logging.getLogger(__name__)

# To publish may take this share of a job's time. At most this much work is unacknowledged.
PUBLISH_SHARE: Final = 0.05
PUBLISH_SECONDS: Final = 60.0
# What a publishing costs at least: every reader opens the new snapshot.
PUBLISH_COST: Final = 0.25


@dataclass
class _Changes:
    """What was written and not published: of vectors what is new, of bulk rows all files."""

    rows: dict[str, list[Path]]
    fragments: "dict[str, list[FragmentMetadata]]" = field(default_factory=dict)
    deletions: dict[str, list[Deletion]] = field(default_factory=dict)
    created: dict[str, int] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    files: list[StoredFile] = field(default_factory=list)

    def copy(self) -> "_Changes":
        return _Changes(
            {name: [*paths] for name, paths in self.rows.items()},
            {name: [*fragments] for name, fragments in self.fragments.items()},
            {name: [*deletions] for name, deletions in self.deletions.items()},
            {**self.created},
            {*self.dropped},
            [*self.files],
        )

    @property
    def tables(self) -> set[str]:
        """The vector tables that need a new version."""
        return {*self.fragments, *self.deletions, *self.created} - self.dropped


class Writer:
    """A store, to be written to under a lease."""

    def __init__(self, reader: Reader, lease: Lease, folder: Path, base: Manifest, change: str):
        """base: the manifest that it begins with; its `id` is 0 where there is no store yet.

        folder: for its private files, the working catalogue among them.
        """
        self.reader, self.location = reader, reader.location
        self._change, self._lease, self._folder, self._base = change, lease, folder, base
        self._catalog = folder / "catalog.duckdb"
        self._engine = sa.create_engine(f"duckdb:///{self._catalog}", poolclass=StaticPool)
        rows = {
            table: [reader.files.path(base, file) for file in base.rows.get(table, [])]
            for table in bulk.SCHEMAS
        }
        self._changes, self._transaction = _Changes(rows), _Changes({})
        self._snapshot: Snapshot | None = None
        self._is_changed = base.revision != REVISION
        self._published_at, self._publish_seconds = time.monotonic(), 0.0
        with self._engine.connect() as connection:
            connection.exec_driver_sql(NO_BAR)
        self._show_rows()

    @property
    def folder(self) -> Path:
        """For files that end with this writer."""
        return self._folder

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """The catalogue as this writer has it, published or not, with views of the bulk rows."""
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction: at the end of the block all of it is in the next snapshot, or none.

        The other methods that write belong into such a block.

        Raises: StoreNotWritable if the disk refuses.
        """
        self._transaction = self._changes.copy()
        with (
            disk.refusals(self.location.uri),
            self.location.explained(),
            self._engine.connect() as connection,
            connection.begin(),
        ):
            yield connection
        is_same = self._transaction.rows == self._changes.rows
        self._changes, self._is_changed = self._transaction, True
        progress.note(f"snapshot {self._base.id or '–'} + unpublished")
        if not is_same:
            self._show_rows()

    def create_table(self, name: str, schema: pa.Schema) -> None:
        """Make an empty vector table."""
        uri, options = self._lance(name)
        self._transaction.created[name] = lance_tables.create(uri, schema, options)

    def schema_of(self, table: str) -> pa.Schema:
        """The columns of a vector table, which never change."""
        uri, options = self._lance(table)
        return lance_tables.open_table(uri, None, options).schema

    def append(self, table: str, rows: pa.Table | pa.RecordBatchReader) -> None:
        """Add rows to a vector table."""
        uri, options = self._lance(table)
        self.add_fragments(table, lance_tables.write_fragments(uri, rows, options))

    def add_fragments(
        self, table: str, fragments: "list[FragmentMetadata]", files: Collection[StoredFile] = ()
    ) -> None:
        """Add rows that are written already, here or elsewhere, to a vector table.

        files: those of the fragments' files whose checksums are known.
        """
        self._transaction.fragments.setdefault(table, []).extend(fragments)
        self._transaction.files.extend(files)

    def delete(self, table: str, condition: str) -> dict[int, int]:
        """Delete the published rows of a vector table that meet a condition.

        Returns how many there are of each chunk.
        """
        found = self._published(table)
        counts = lance_tables.rows_by_chunk(found, condition)
        if counts:
            deletion = lance_tables.prepare_deletion(found, condition)
            self._transaction.deletions.setdefault(table, []).append(deletion)
        return counts

    def delete_damaged(self, table: str, files: Collection[str], lost: Collection[str]) -> None:
        """Delete the rows of some structures, and all rows that are in damaged data files."""
        found = self._published(table)
        damaged = lance_tables.damaged_fragments(found, files)
        condition = f"structure_id IN ({literals(lost)})"
        deletion = lance_tables.prepare_deletion(found, condition, damaged)
        self._transaction.deletions.setdefault(table, []).append(deletion)

    def readable_structures(self, table: str, damaged: Collection[str]) -> set[str]:
        """The ids of the structures with rows in the whole data files of a vector table."""
        found = self._published(table)
        return lance_tables.structures_in(found, lance_tables.damaged_fragments(found, damaged))

    def drop_index(self, table: str) -> None:
        """Forget the index of a vector table; the next maintenance makes another."""
        uri, options = self._lance(table)
        version = lance_tables.drop_index(uri, self._base.vectors[table].version, options)
        self._transaction.created[table] = version

    def drop_table(self, name: str) -> None:
        """Forget a vector table."""
        self._transaction.dropped.add(name)

    def add_rows(self, table: str, rows: pa.Table) -> None:
        """Add bulk rows to one of the tables of `bulk.SCHEMAS`."""
        if rows.num_rows:
            self._transaction.rows[table].append(bulk.write(rows, table, self._folder / "rows"))

    def rows_of(self, table: str, structure_ids: pa.StringArray) -> Iterator[pa.Table]:
        """Stream the bulk rows of some structures, both sorted, as they are when this begins."""
        rows = self._changes.rows
        return bulk.in_order(rows[table], table, structure_ids, rows[bulk.DELETED])

    def keep_parameters(self, name: str, content: bytes) -> None:
        """Keep what was fitted under a name, in the place of what was there."""
        self.delete_rows("parameters", f"name = {literals([name])}")
        self.add_rows("parameters", pa.table({"name": [name], "content": [content]}))

    def delete_rows(self, table: str, condition: str) -> None:
        """Delete the bulk rows that meet a condition."""
        files, deleted = self._row_files(table)
        folder = self._folder / "rows"
        left = [bulk.without(path, table, condition, folder, deleted) for path in files]
        self._keep_rows(table, left)

    def delete_rows_of(self, table: str, structure_ids: list[str]) -> None:
        """Delete the bulk rows of some structures; see `bulk.without_structures`."""
        files, deleted = self._row_files(table)
        ids, folder = pa.array(structure_ids, pa.string()), self._folder / "rows"
        done = [bulk.without_structures(path, table, ids, folder, deleted) for path in files]
        self._keep_rows(table, [left for left, _ in done])
        for _, noted in done:
            self.add_rows(bulk.DELETED, noted)

    def clear_rows(self, table: str) -> None:
        """Delete all bulk rows of a table, whose files need not be readable."""
        self._keep_rows(table, [None for _ in self._transaction.rows[table]])

    def _row_files(self, table: str) -> tuple[list[Path], list[Path]]:
        """The files of a table, and those that note what is deleted of files."""
        return self._transaction.rows[table], self._transaction.rows[bulk.DELETED]

    def _keep_rows(self, table: str, left: list[Path | None]) -> None:
        """Keep what is left of each file of a table."""
        rows = self._transaction.rows
        gone = [old for old, new in zip(rows[table], left, strict=True) if new != old]
        self._replace(rows, table, [path for path in left if path is not None], gone)

    def _replace(
        self, rows: dict[str, list[Path]], table: str, paths: list[Path], gone: list[Path]
    ) -> None:
        """Give a table other files, and forget what was deleted of those that are gone.

        One with the same rows may come again.
        """
        if gone and rows[bulk.DELETED]:
            condition = f"file IN ({literals(path.stem for path in gone)})"
            folder = self._folder / "rows"
            noted = (
                bulk.without(path, bulk.DELETED, condition, folder) for path in rows[bulk.DELETED]
            )
            rows[bulk.DELETED] = [path for path in noted if path is not None]
        rows[table] = paths

    def _published(self, table: str) -> "LanceDataset":
        uri, options = self._lance(table)
        return lance_tables.open_table(uri, self._base.vectors[table].version, options)

    def _lance(self, name: str) -> tuple[str, dict[str, str] | None]:
        return self.location.lance_uri(name), self.location.lance_options

    def _show_rows(self) -> None:
        with self._engine.connect() as connection:
            for table, paths in self._changes.rows.items():
                rows = bulk.select(table, paths, self._changes.rows[bulk.DELETED])
                connection.exec_driver_sql(f"CREATE OR REPLACE TEMP VIEW {table} AS {rows}")
            connection.commit()

    def snapshot(self) -> Snapshot:
        """All that was written, as readers see it: it is published first."""
        self.publish()
        if self._snapshot is None or self._snapshot.manifest is not self._base:
            self._snapshot = self.reader.open(self._base)
        return self._snapshot

    @property
    def witness(self) -> str:
        """A file that this store has: who finds it sees the same store."""
        return self._lease.key

    @property
    def vector_tables(self) -> dict[str, int]:
        """How many rows each published vector table has."""
        return {name: table.rows for name, table in self._base.vectors.items()}

    def publish_if_due(self) -> None:
        """Publish where that takes little of the job's time, or much is unacknowledged."""
        elapsed = time.monotonic() - self._published_at
        cost = max(PUBLISH_COST, self._publish_seconds)
        if elapsed >= min(PUBLISH_SECONDS, cost / PUBLISH_SHARE):
            self.publish()

    @uninterrupted()
    def publish(self, maintained: Collection[str] = ()) -> None:
        """Show readers all that was committed, if they do not see it yet.

        maintained: vector tables to be compacted and indexed before.

        Raises: LeaseLost if another writer has taken the store over; StoreNotWritable.
        """
        if not self._is_changed and not maintained:
            return
        started = time.monotonic()
        self._lease.require()
        with disk.refusals(self.location.uri), self.location.explained():
            vectors = self._publish_vectors(maintained)
            if not self._is_changed and vectors == self._base.vectors:
                return
            rows = {table: self._publish_rows(table) for table in self._changes.rows}
            catalog = self._publish_catalog()
            made = Manifest(
                id=self._base.id + 1,
                parent=self._base.id or None,
                store=self._base.store,
                writer=self._lease.holder,
                created_at=manifest.now(),
                change=self._change,
                revision=REVISION,
                structures=self._count_structures(),
                catalog=catalog,
                rows={table: files for table, files in rows.items() if files},
                vectors=vectors,
            )
            if not manifest.create(self.location, made):
                raise LeaseLost(
                    f"another writer has published snapshot {made.id} of {self.location.uri}; "
                    "what was published before is safe",
                    "run the same again",
                )
        merged = self._merged(vectors)
        self._begin_with(made)
        with suppress(PlatonicError, OSError):  # readers find it without
            manifest.note_newest(self.location, made)
            self.location.delete(merged)
        self._published_at = time.monotonic()
        self._publish_seconds = self._published_at - started
        progress.note(f"snapshot {made.id}")
        _log.info("published snapshot %d in %.2f s", made.id, self._publish_seconds)

    def _merged(self, vectors: dict[str, VectorFiles]) -> list[str]:
        """Files that were merged before any snapshot named them."""
        named = {file.path for table in vectors.values() for file in table.files}
        written = self._changes.fragments.items()
        files = {path for name, new in written for path in lance_tables.data_paths(name, new)}
        return sorted(files - named)

    def _begin_with(self, made: Manifest) -> None:
        self._base, self._is_changed = made, False
        self._changes = _Changes(self._changes.rows)

    def _publish_vectors(self, maintained: Collection[str]) -> dict[str, VectorFiles]:
        changes, published = self._changes, self._base.vectors
        known = {file.path: file for table in published.values() for file in table.files}
        known |= {file.path: file for file in changes.files}
        found = {name: table for name, table in published.items() if name not in changes.dropped}
        for name in changes.tables | {*maintained} - changes.dropped:
            uri, options = self._lance(name)
            base = changes.created.get(name) or published[name].version
            fragments, deletions = changes.fragments.get(name, []), changes.deletions.get(name, [])
            table = lance_tables.commit(uri, base, fragments, deletions, options)
            if name in maintained or lance_tables.is_fragmented(table):
                table = lance_tables.maintain(uri, table.version, options)
            found[name] = lance_tables.inventory(self.location, name, table, known)
        return found

    def _publish_rows(self, table: str) -> list[StoredFile]:
        rows = self._changes.rows
        before = rows[table]
        while (count := bulk.to_merge([path.stat().st_size for path in rows[table]])) > 1:
            older, parts = rows[table][:-count], rows[table][-count:]
            merged = bulk.merge(parts, table, self._folder / "rows", rows[bulk.DELETED])
            self._replace(rows, table, [*older, merged], parts)
        if rows[table] != before:
            self._show_rows()  # what was merged may be cleaned up during a long job
        known = {file.path: file for file in self._base.rows.get(table, [])}
        return [
            known.get(_row_key(path)) or self._upload(describe(path, _row_key(path)), path)
            for path in rows[table]
        ]

    def _count_structures(self) -> int:
        with self.reading() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(t.structures)) or 0

    def _publish_catalog(self) -> StoredFile:
        path = self._catalog
        with self._engine.connect() as connection:
            connection.exec_driver_sql("CHECKPOINT")  # and nobody writes until it is copied
            if migrate.is_sparse(connection):
                path = self._folder / "compact.duckdb"
                path.unlink(missing_ok=True)
                migrate.compact(connection, path)
        found = describe(path, "")
        return self._upload(found._replace(path=f"catalog/{found.sha256}.duckdb"), path)

    def _upload(self, file: StoredFile, path: Path) -> StoredFile:
        if not self.location.exists(file.path):
            self.location.upload(file.path, path)
        return file

    def clean_up(self, *, thoroughly: bool = False) -> int:
        """Remove snapshots that are no longer kept, and their files; see `cleanup.clean_up`.

        Raises: LeaseLost if another writer has taken the store over.
        """
        self._lease.require()
        return clean_up(self.location, thoroughly=thoroughly)

    def close(self) -> None:
        self._engine.dispose()


def _row_key(path: Path) -> str:
    return f"rows/{path.parent.name}/{path.name}"
