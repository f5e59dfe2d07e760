"""Alembic, run from the program rather than from an alembic.ini."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from platonic_store.resources import folder
from platonic_store.storage.sqltext import NO_BAR, literals, quote

# In bytes. By DuckDB's own 262,144 a small catalogue would take 10 MB, which is copied at each
# publishing.
_BLOCK = "16384"


def config(connection: sa.Connection) -> Config:
    """Alembic's configuration for the catalogue behind `connection`."""
    settings = Config()
    settings.set_main_option("script_location", str(folder("migrations")))
    settings.attributes["connection"] = connection
    return settings


def upgrade(connection: sa.Connection, revision: str = "head") -> None:
    """Bring the catalogue to a revision, in the connection's transaction."""
    command.upgrade(config(connection), revision)


def is_sparse(connection: sa.Connection) -> bool:
    """Whether much of the catalogue's file is free, as after deletions, or its blocks are large."""
    size = connection.exec_driver_sql("PRAGMA database_size").mappings().one()
    has_large_blocks = int(size["block_size"]) > int(_BLOCK)
    return has_large_blocks or 2 * int(size["free_blocks"]) > int(size["used_blocks"])


def compact(connection: sa.Connection, path: Path) -> None:
    """Copy the catalogue row by row into a new file, which has no free blocks."""
    (name,) = connection.exec_driver_sql("SELECT current_database()").one()
    connection.exec_driver_sql(f"ATTACH {literals([str(path)])} AS compact (BLOCK_SIZE {_BLOCK})")
    connection.exec_driver_sql(f"COPY FROM DATABASE {quote(name)} TO compact")
    connection.commit()
    connection.exec_driver_sql("DETACH compact")


def upgrade_file(path: Path) -> None:
    """Create a catalogue, or bring the one in a file, which nobody has open, to the newest
    revision; what that leaves free goes."""
    is_new, compacted = not path.exists(), path.with_suffix(".compact")
    options = {"config": {"default_block_size": _BLOCK}}
    engine = sa.create_engine(f"duckdb:///{path}", connect_args=options)
    with engine.begin() as connection:
        connection.exec_driver_sql(NO_BAR)
        upgrade(connection)
    with engine.connect() as connection:
        connection.exec_driver_sql("CHECKPOINT")
        if not is_new and is_sparse(connection):
            compact(connection, compacted)
    engine.dispose()
    if compacted.exists():
        compacted.replace(path)
