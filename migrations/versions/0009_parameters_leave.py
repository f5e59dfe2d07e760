"""what was fitted leaves the tables of spaces, projections and layouts

It waits in a table of its own for the next writer, who makes bulk rows of it: a catalogue is copied
at each publishing, and these are its largest part. Tables are made anew, because DuckDB alters no
table with a key that was changed in the same transaction.
"""

from alembic import op

revision = "0009"
down_revision = "0007"

_CREATED = "created_at TIMESTAMPTZ DEFAULT now() NOT NULL"
# By table: its columns, the one that leaves, and the name of what was in it.
_TABLES = {
    "spaces": (
        f"id VARCHAR PRIMARY KEY, recipe VARCHAR NOT NULL, anchor_set VARCHAR NOT NULL, "
        f"{_CREATED}, agreement JSON",
        "targets",
        "'space/' || id",
    ),
    "projections": (
        f"space VARCHAR, model VARCHAR, layer INTEGER, {_CREATED}, "
        "PRIMARY KEY (space, model, layer)",
        "parameters",
        "'projection/' || space || '/' || model || '@' || layer",
    ),
    "layouts": (
        "level VARCHAR PRIMARY KEY, space VARCHAR NOT NULL, models VARCHAR[] NOT NULL, "
        f"settings JSON NOT NULL, {_CREATED}",
        "parameters",
        "'layout/' || level",
    ),
}


def upgrade() -> None:
    op.execute("CREATE TABLE older_parameters (name VARCHAR PRIMARY KEY, content BLOB NOT NULL)")
    for table, (columns, leaving, name) in _TABLES.items():
        op.rename_table(table, "old")
        fitted = f"SELECT {name}, {leaving} FROM old WHERE {leaving} IS NOT NULL"
        op.execute(f"INSERT INTO older_parameters {fitted}")
        op.execute(f"CREATE TABLE {table} ({columns})")
        op.execute(f"INSERT INTO {table} BY NAME SELECT * EXCLUDE ({leaving}) FROM old")
        op.drop_table("old")


def downgrade() -> None:
    raise NotImplementedError("a snapshot is never changed: open an earlier one")
