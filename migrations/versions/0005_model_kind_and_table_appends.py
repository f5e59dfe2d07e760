"""model kind and table appends"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.rename_table("fills", "table_appends")
    op.add_column("models", sa.Column("kind", sa.String(), server_default="trained"))
    op.alter_column("models", "kind", nullable=False)
    op.execute("UPDATE models SET kind = 'control' WHERE name LIKE 'control:%'")


def downgrade() -> None:
    op.drop_column("models", "kind")
    op.rename_table("table_appends", "fills")
