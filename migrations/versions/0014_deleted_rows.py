"""what is deleted may stay in the files of bulk rows, and be noted beside them

Nothing changes in the catalogue. A program that does not know `deleted_rows` would show what is
deleted, so it must not read the store.
"""

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    pass


def downgrade() -> None:
    raise NotImplementedError("a snapshot is never changed: open an earlier one")
