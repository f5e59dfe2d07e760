"""Alembic, run from the program rather than from an alembic.ini."""

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from platonic_store.resources import folder


def config(connection: sa.Connection) -> Config:
    """Alembic's configuration for the catalogue behind `connection`."""
    settings = Config()
    settings.set_main_option("script_location", str(folder("migrations")))
    settings.attributes["connection"] = connection
    return settings


def upgrade(connection: sa.Connection) -> None:
    """Bring the catalogue to the newest revision, in the connection's transaction."""
    command.upgrade(config(connection), "head")
