"""hub scores: a space keeps the sample that they are measured by"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("spaces", sa.Column("hubs", sa.LargeBinary()))


def downgrade() -> None:
    raise NotImplementedError("a snapshot is never changed: open an earlier one")
