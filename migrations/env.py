"""Run by Alembic: migrations use the connection that the program hands over."""

from alembic import context
from alembic.ddl.impl import DefaultImpl

from platonic_store.storage.tables import metadata


class DuckDBImpl(DefaultImpl):
    __dialect__ = "duckdb"


def include_object(item, name, kind, reflected, compare_to) -> bool:
    """Columns of properties follow the data that users bring, not a migration."""
    return not (kind == "column" and item.table.name == "structures" and compare_to is None)


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    include_object=include_object,
)
with context.begin_transaction():
    context.run_migrations()
