"""Rows in and out of the DuckDB catalogue, by Arrow."""

from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from platonic_store.storage.sqltext import quote


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
