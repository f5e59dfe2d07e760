"""layouts of the map; the map itself is bulk rows"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "layouts",
        sa.Column("level", sa.String(), nullable=False),
        sa.Column("space", sa.String(), nullable=False),
        sa.Column("models", sa.ARRAY(sa.String()), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("parameters", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("level", name=op.f("layouts_pkey")),
    )


def downgrade() -> None:
    raise NotImplementedError("a snapshot is never changed: open an earlier one")
