"""The DuckDB catalogue: structures, properties, runs, provenance, and which vectors are committed.

`catalog.duckdb` is the writer's alone, who holds the writer lock for the whole of a job. Readers
open the copies that the writer publishes, see `published`.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import filelock
import pyarrow as pa
import sqlalchemy as sa
import tenacity
from sqlalchemy.pool import NullPool

from platonic_store.errors import (
    Call,
    StoreBusy,
    StoreNotFound,
    StoreNotWritable,
    StoreTooNew,
)
from platonic_store.storage import disk, published
from platonic_store.storage.sqltext import literals, quote

REVISION = "0005"
# How long the first reader of a store waits for the writer that is about to publish it.
WAIT_SECONDS = 10.0

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Catalog:
    """The catalogue whose working file is `path`."""

    def __init__(self, path: Path):
        self.path = path
        self._folder = path.with_name("published")
        self._lock = filelock.FileLock(path.with_name("writer.lock"))
        self._is_ahead = False
        self._current: Path | None = None  # a published file that is known to be of this revision
        self._engines = {
            read_only: sa.create_engine(
                f"duckdb:///{path}",
                poolclass=NullPool,
                connect_args={"read_only": read_only},
            )
            for read_only in (True, False)
        }

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the one writer, in this thread, to the end of the block.

        Raises: StoreBusy if there is another, StoreNotWritable.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise StoreBusy(
                f"another process is writing to {self.path.parent}",
                "wait for it to finish (queries work meanwhile)",
                "stop it",
            ) from None
        except OSError as error:
            raise StoreNotWritable(
                f"cannot write to {self.path.parent}: {error.strerror}", "choose another folder"
            ) from None
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """The writer's own view: what it committed, published or not. For the writer alone."""
        with self._engines[True].connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction: all of it is committed at the end of the block, or none.

        For the writer alone. Readers see it once it is published.

        Raises: StoreNotWritable if the disk refuses.
        """
        with (
            disk.refusals(self.path),
            self._engines[False].connect() as connection,
            connection.begin(),
        ):
            self._is_ahead = True
            yield connection

    def publish(self) -> None:
        """Show readers all that was committed, if they do not see it yet. For the writer alone.

        Raises: StoreNotWritable if the disk refuses.
        """
        if not self._is_ahead and published.is_published(self.path, self._folder):
            return
        with disk.refusals(self.path):
            if published.log_of(self.path).exists():  # what a killed writer left
                with self._engines[False].connect() as connection:
                    connection.exec_driver_sql("CHECKPOINT")
            published.publish(self.path, self._folder)
        self._is_ahead = False

    def published(self) -> Path:
        """The file that readers open: the newest published one.

        What was never published, such as a store of version 0.1, is first brought to this program's
        revision and published. On a read-only disk it is the working file if that is current.

        Raises: StoreNotFound, StoreTooNew, StoreBusy, StoreNotWritable.
        """
        return published.newest(self._folder) or self._first_published()

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(StoreBusy),
        wait=tenacity.wait_fixed(0.05),
        stop=tenacity.stop_after_delay(WAIT_SECONDS),
        reraise=True,
    )
    def _first_published(self) -> Path:
        if file := published.newest(self._folder):
            return file
        if not self.path.exists():
            raise StoreNotFound(
                f"there is no store at {self.path.parent}",
                Call("ingest", "SOURCE", models=["sevennet-0"]),
            )
        try:
            self._renew()
        except StoreNotWritable:
            if _revision(self.path) != REVISION:
                raise
            return self.path
        return self.published()

    def _renew(self) -> None:
        """Bring the store to this program's revision and show it to readers."""
        with self.locked():
            self.migrate()
            self.publish()

    def attached(self) -> tuple[Path, duckdb.DuckDBPyConnection]:
        """A DuckDB instance with the published file attached read-only as `catalog`; and that file.

        Views are of today's tables: an older catalogue is first brought to this revision.

        Raises: as `published`.
        """
        path, connection = self._opened(_attach)
        if not self._is_current(_revision_of(connection, "catalog.main")):
            connection.close()
            self._renew()
            path, connection = self._opened(_attach)
        return path, connection

    def _opened(self, use: Callable[[Path], _T]) -> _T:
        """What `use` makes of the newest published file, which may disappear as it is opened."""
        while True:
            path = self.published()
            try:
                return use(path)
            except duckdb.IOException:
                if path.exists():
                    raise

    def migrate(self) -> None:
        """Create the working file, or bring an older one to this program's revision.

        For the writer alone. Raises: StoreTooNew.
        """
        from platonic_store.storage.migrate import upgrade

        revision = _revision(self.path) if self.path.exists() else None
        if not self._is_current(revision):
            with self.writing() as connection:
                upgrade(connection)
            _log.info("migrated %s from revision %s to %s", self.path, revision, REVISION)

    def revision(self) -> str | None:
        """The revision of the tables that readers see; None if there is no catalogue yet.

        Raises: as `published`.
        """
        if not self.path.exists():
            return None
        path = self.published()
        if path != self._current:
            revision = self._opened(_revision)
            if not self._is_current(revision):
                return revision
            self._current = path
        return REVISION

    def _is_current(self, revision: str | None) -> bool:
        if revision is not None and revision > REVISION:
            raise StoreTooNew(
                f"the store at {self.path.parent} was made by a newer platonic-store (catalogue "
                f"revision {revision}, this program knows {REVISION})",
                "install the newest platonic-store",
            )
        return revision == REVISION


def _attach(path: Path) -> tuple[Path, duckdb.DuckDBPyConnection]:
    connection = duckdb.connect()
    connection.execute(f"ATTACH {literals([str(path)])} AS catalog (READ_ONLY)")
    return path, connection


def _revision(path: Path) -> str | None:
    """The revision of the catalogue in a file, which no writer may have open."""
    with duckdb.connect(str(path), read_only=True) as connection:
        return _revision_of(connection, "main")


def _revision_of(connection: duckdb.DuckDBPyConnection, schema: str) -> str | None:
    try:
        row = connection.execute(f"SELECT version_num FROM {schema}.alembic_version").fetchone()
    except duckdb.CatalogException:
        return None
    return row[0] if row else None


def insert_arrow(
    connection: sa.Connection, table: str, rows: pa.Table | pa.RecordBatch, *, conflict: str = ""
) -> None:
    """Bulk-load `rows` into `table` by column name, inside the connection's transaction."""
    raw: Any = connection.connection.driver_connection
    raw.register("incoming", rows)
    raw.execute(f"INSERT INTO {quote(table)} BY NAME SELECT * FROM incoming {conflict}")
    raw.unregister("incoming")


def fetch_arrow(
    connection: sa.Connection, sql: str, parameters: list[Any] | None = None
) -> pa.Table:
    """The rows of a query as an Arrow table."""
    raw: Any = connection.connection.driver_connection
    return raw.execute(sql, parameters or []).to_arrow_table()


def next_id(connection: sa.Connection, table: sa.Table) -> int:
    """The next free integer id: there is one writer, so one more than the largest is free."""
    return (connection.scalar(sa.select(sa.func.max(table.c.id))) or 0) + 1
