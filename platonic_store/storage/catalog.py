"""Rows in and out of the DuckDB catalogue, by Arrow."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from platonic_store.storage.sqltext import quote


@contextmanager
def registered(connection: sa.Connection, **tables: pa.Table | pa.RecordBatch) -> Iterator[Any]:
    """DuckDB's own connection, which knows tables by these names within the block."""
    raw: Any = connection.connection.driver_connection
    for name, rows in tables.items():
        raw.register(name, rows)
    try:
        yield raw
    finally:
        for name in tables:
            raw.unregister(name)


def insert_arrow(
    connection: sa.Connection, table: str, rows: pa.Table | pa.RecordBatch, *, conflict: str = ""
) -> None:
    """Bulk-load `rows` into `table` by column name, inside the connection's transaction."""
    with registered(connection, incoming=rows) as raw:
        raw.execute(f"INSERT INTO {quote(table)} BY NAME SELECT * FROM incoming {conflict}")


def fetch_arrow(
    connection: sa.Connection, sql: str, parameters: list[Any] | None = None
) -> pa.Table:
    """The rows of a query as an Arrow table."""
    raw: Any = connection.connection.driver_connection
    return raw.execute(sql, parameters or []).to_arrow_table()
