"""what sources say of structures joins the structures themselves

A table of its own had a second copy of every id, and a key with an index: a quarter of a large
catalogue, which is copied at each publishing.
"""

from alembic import op

revision = "0015"
down_revision = "0014"

_OWN = (
    "id VARCHAR PRIMARY KEY, content_hash VARCHAR NOT NULL, formula VARCHAR NOT NULL, "
    "elements VARCHAR[] NOT NULL, nsites INTEGER NOT NULL, distinct_sites INTEGER NOT NULL, "
    "volume DOUBLE, spacegroup SMALLINT, added_at TIMESTAMPTZ DEFAULT now() NOT NULL"
)


def upgrade() -> None:
    connection = op.get_bind()
    own = {name for name, *_ in connection.exec_driver_sql("DESCRIBE structures").all()}
    said = connection.exec_driver_sql("DESCRIBE properties").all()[1:]
    taken = {name.lower() for name in own} | {name.lower() for name, *_ in said}
    op.rename_table("structures", "old")
    op.execute(f"CREATE TABLE structures ({_OWN})")
    columns = ["old.*"]
    for name, kind, *_ in said:
        # Once a property could have the name of a column that came later.
        new = name
        while new.lower() in own or (new != name and new.lower() in taken):
            new = f"source_{new}"
        old, new = (part.replace('"', '""') for part in (name, new))
        connection.exec_driver_sql(f'ALTER TABLE structures ADD COLUMN "{new}" {kind}')
        columns.append(f'p."{old}" AS "{new}"')
    connection.exec_driver_sql(
        f"INSERT INTO structures BY NAME SELECT {', '.join(columns)} "
        "FROM old LEFT JOIN properties AS p ON p.structure_id = old.id"
    )
    op.drop_table("properties")
    op.drop_table("old")


def downgrade() -> None:
    raise NotImplementedError("a snapshot is never changed: open an earlier one")
