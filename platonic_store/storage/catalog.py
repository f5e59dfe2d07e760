"""The DuckDB catalogue: structures, properties, runs, provenance, and which vectors are committed.

DuckDB lets either many processes read a file or one write it. So nobody holds it: a reader opens
it for a query, the writer for a commit, each when it is its turn (see `turns`). A program that
knows of no turns, such as the plain DuckDB client, is waited for.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import sqlalchemy as sa
import tenacity
from sqlalchemy.pool import NullPool

from platonic_store.errors import StoreBusy, StoreNotWritable, StoreTooNew, disk_refusal
from platonic_store.storage.turns import PATIENCE, PAUSE, WAIT_SECONDS, Turns

REVISION = "0004"

_HOLDER = re.compile(r"Conflicting lock is held in (?P<program>\S+).*?\(PID (?P<pid>\d+)\)")


def _is_taken(error: BaseException) -> bool:
    return "Could not set lock on file" in str(error)


def _wait_for_file(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    holder = _HOLDER.search(str(error))
    who = f"{holder['program']} (pid {holder['pid']})" if holder else "another program"
    raise StoreBusy(
        f"the catalogue is held open by {who} for over {WAIT_SECONDS:.0f} s; "
        "close it there and run the same command again: nothing committed was lost"
    ) from None


retry_while_taken = tenacity.retry(
    retry=tenacity.retry_if_exception(_is_taken),
    wait=PAUSE,
    stop=PATIENCE,
    retry_error_callback=_wait_for_file,
)


class Catalog:
    """Short-lived connections to the catalogue at `path`."""

    def __init__(self, path: Path):
        self.path = path
        self._is_current = False
        self._turns = Turns(path)
        self._engines = {
            read_only: sa.create_engine(
                f"duckdb:///{path}",
                poolclass=NullPool,
                connect_args={"read_only": read_only},
            )
            for read_only in (True, False)
        }

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A read-only connection to the last committed state, closed at the end of the block."""
        with (
            self._turns.reading(),
            retry_while_taken(self._engines[True].connect)() as connection,
        ):
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction: all of it is committed at the end of the block, or none.

        Raises: StoreBusy if another program holds the file, StoreNotWritable if the disk refuses.
        """
        try:
            with (
                self._turns.writing(),
                retry_while_taken(self._engines[False].connect)() as connection,
                connection.begin(),
            ):
                yield connection
        except (sa.exc.DBAPIError, duckdb.Error, OSError) as error:
            if refused := disk_refusal(error):
                raise StoreNotWritable(
                    f"cannot write {self.path}: {refused}; "
                    "free the disk or the permission and run the same command again"
                ) from None
            raise

    @contextmanager
    def attached(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB instance of its own with the catalogue attached read-only as `catalog`.

        The views are of today's tables: an older catalogue is first brought to this revision.
        """
        if not self._is_current:
            self.migrate()
        with self._turns.reading(), duckdb.connect() as connection:
            attach = retry_while_taken(connection.execute)
            attach(f"ATTACH {literals([str(self.path)])} AS catalog (READ_ONLY)")
            yield connection

    def migrate(self) -> None:
        """Create the catalogue, or bring an older one to this program's revision."""
        from platonic_store.storage.migrate import upgrade

        if self.revision() != REVISION:
            with self.writing() as connection:
                upgrade(connection)
        self._is_current = True

    def revision(self) -> str | None:
        """The revision of the catalogue's tables; None before the first migration.

        Raises: StoreTooNew if a newer program made it.
        """
        if not self.path.exists():
            return None
        with self.reading() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            revision = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        if revision is not None and revision > REVISION:
            raise StoreTooNew(
                f"the store at {self.path.parent} was made by a newer platonic-store (catalogue "
                f"revision {revision}, this program knows {REVISION}): "
                "run `pip install --upgrade platonic-store`"
            )
        return revision


def insert_arrow(
    connection: sa.Connection, table: str, rows: pa.Table | pa.RecordBatch, *, conflict: str = ""
) -> None:
    """Bulk-load `rows` into `table` by column name, inside the connection's transaction."""
    raw: Any = connection.connection.driver_connection
    raw.register("incoming", rows)
    raw.execute(f"INSERT INTO {quote(table)} BY NAME SELECT * FROM incoming {conflict}")
    raw.unregister("incoming")


def fetch_arrow(connection: sa.Connection, sql: str, parameters: list | None = None) -> pa.Table:
    """The rows of a query as an Arrow table."""
    raw: Any = connection.connection.driver_connection
    return raw.execute(sql, parameters or []).to_arrow_table()


def next_id(connection: sa.Connection, table: sa.Table) -> int:
    """The next free integer id: there is one writer, so one more than the largest is free."""
    return (connection.scalar(sa.select(sa.func.max(table.c.id))) or 0) + 1


def quote(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literals(texts: Iterable[str]) -> str:
    """Texts as SQL string literals, in a list."""
    return ", ".join("'" + text.replace("'", "''") + "'" for text in texts)
