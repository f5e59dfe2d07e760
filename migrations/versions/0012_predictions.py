"""outputs of runs; energies and forces themselves are bulk rows"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("runs", sa.Column("outputs", sa.ARRAY(sa.String())))


def downgrade() -> None:
    raise NotImplementedError("a snapshot is never changed: open an earlier one")
