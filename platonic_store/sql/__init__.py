"""SQL over a store: in process for `Store.sql`, and as a script for any DuckDB client.

Both know the same views. In process the functions are answered by Python and accept subqueries
and columns as arguments; the script's are plain SQL over DuckDB's Lance extension.
"""

import re
from collections.abc import Mapping

import duckdb
import pyarrow as pa

from platonic_store import questions
from platonic_store.errors import InvalidQuery
from platonic_store.sql import cookbook
from platonic_store.sql.client import init_script
from platonic_store.sql.registry import original, register
from platonic_store.storage.snapshot import Snapshot
from platonic_store.storage.sqltext import one_line, require_select
from platonic_store.storage.watch import check_rows

BATCH_ROWS = 100_000

__all__ = ["init_script", "run"]


def run(
    snapshot: Snapshot,
    query: str,
    *,
    variables: Mapping[str, object] | None = None,
    allow_files: bool = False,
) -> pa.Table:
    """The result of read-only SQL, or of a query of the cookbook; see `Store.sql`.

    Raises: InvalidQuery with what DuckDB says, and what a question raises.
    """
    values = {name: str(value) for name, value in (variables or {}).items()}
    if query.startswith("@"):
        entry = cookbook.entry(query[1:])
        query, values = entry.sql, cookbook.prepared(snapshot, entry, values)
    if not allow_files:
        require_select(query)
    known = register(snapshot, query)
    cursor = snapshot.cursor(query)
    try:
        cursor.execute(cookbook.assignments(values))
        try:
            result = cursor.execute(query)
        except duckdb.CatalogException:  # which names views that look alike, once they are made
            snapshot.cursor()
            result = cursor.execute(query)
        return _unique_names(_table(result)) if result.description else pa.table({})
    except duckdb.Error as error:
        if raised := original(error, known):
            raise raised from None
        raise InvalidQuery(f"SQL: {one_line(error)}", *_hints(query, error)) from None


def _hints(query: str, error: duckdb.Error) -> list[str]:
    """What a question is called in SQL, of one that was called as elsewhere."""
    missing = re.search(r"Function with name (\w+) does not exist", str(error))
    if missing is None or missing[1] not in questions.names():
        return []
    names = [one.name for one in questions.get(missing[1]).sql]
    return [f"call {' or '.join(names)}"] if names else []


def _table(result: duckdb.DuckDBPyConnection) -> pa.Table:
    """All rows, unless they are more than may be. Raises: InvalidQuery."""
    reader = result.to_arrow_reader(BATCH_ROWS)
    batches, count = [], 0
    for batch in reader:
        count += batch.num_rows
        check_rows(count)
        batches.append(batch)
    return pa.Table.from_batches(batches, reader.schema)


def _unique_names(table: pa.Table) -> pa.Table:
    """A second `formula` of a join becomes `formula_1`: frames and files want unique names."""
    names: list[str] = []
    for name in table.column_names:
        repeats = sum(other == name or other.startswith(f"{name}_") for other in names)
        names.append(f"{name}_{repeats}" if name in names else name)
    return table.rename_columns(names)
