"""covers: what a store that was thinned was made from, and how far it is from it"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "covers",
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("layer", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("radius", sa.Double(), nullable=False),
        sa.Column("loss", sa.JSON(), nullable=False),
        sa.Column("background", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("model", "layer", name=op.f("covers_pkey")),
    )


def downgrade() -> None:
    raise NotImplementedError("a snapshot is never changed: open an earlier one")
