"""calibrations and what a thinned store was made from leave the catalogue

They wait among the older parameters for the next writer, as in 0009: a calibration has 17 bytes a
structure and model, and a catalogue is copied at each publishing.
"""

from alembic import op

revision = "0013"
down_revision = "0012"

_CREATED = "created_at TIMESTAMPTZ DEFAULT now() NOT NULL"
# By table: its columns, the one that leaves, and the name of what was in it.
_TABLES = {
    "reference_sets": (
        "id VARCHAR PRIMARY KEY, model VARCHAR NOT NULL, layer INTEGER NOT NULL, among VARCHAR, "
        f"seed INTEGER NOT NULL, settings JSON NOT NULL, {_CREATED}",
        "calibration",
        "'calibration/' || id",
    ),
    "covers": (
        "model VARCHAR, layer INTEGER, radius DOUBLE NOT NULL, loss JSON NOT NULL, "
        f"{_CREATED}, PRIMARY KEY (model, layer)",
        "background",
        "'cover/' || model || '@' || layer",
    ),
}


def upgrade() -> None:
    for table, (columns, leaving, name) in _TABLES.items():
        op.rename_table(table, "old")
        op.execute(f"INSERT INTO older_parameters SELECT {name}, {leaving} FROM old")
        op.execute(f"CREATE TABLE {table} ({columns})")
        op.execute(f"INSERT INTO {table} BY NAME SELECT * EXCLUDE ({leaving}) FROM old")
        op.drop_table("old")


def downgrade() -> None:
    raise NotImplementedError("a snapshot is never changed: open an earlier one")
