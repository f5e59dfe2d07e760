"""bulk rows leave the catalogue

`bulk.export` has written them to files before. Tables are made anew, because DuckDB alters no table
with a key that was changed in the same transaction.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

_STRUCTURES = """
    id VARCHAR PRIMARY KEY, content_hash VARCHAR NOT NULL, formula VARCHAR NOT NULL,
    elements VARCHAR[] NOT NULL, nsites INTEGER NOT NULL, volume DOUBLE, spacegroup SMALLINT,
    added_at TIMESTAMPTZ DEFAULT now() NOT NULL
"""
_BULK = "numbers, positions, cell, pbc, orbits"
_VECTORS = """
    name VARCHAR PRIMARY KEY, space VARCHAR, model VARCHAR NOT NULL, layer INTEGER NOT NULL,
    level VARCHAR NOT NULL, dim INTEGER NOT NULL
"""
_APPENDS = """
    table_name VARCHAR, chunk_id BIGINT, rows BIGINT NOT NULL, PRIMARY KEY (table_name, chunk_id)
"""
_REST = {
    "sources": """
        id BIGINT PRIMARY KEY, uri VARCHAR NOT NULL,
        first_read_at TIMESTAMPTZ DEFAULT now() NOT NULL
    """,
    "quarantined": """
        source_id BIGINT, record VARCHAR NOT NULL, structure_id VARCHAR, model VARCHAR,
        reason VARCHAR NOT NULL, "at" TIMESTAMPTZ DEFAULT now() NOT NULL
    """,
    "runs": """
        id BIGINT PRIMARY KEY, model VARCHAR NOT NULL, source_id BIGINT, layers INTEGER[] NOT NULL,
        state VARCHAR NOT NULL, started_at TIMESTAMPTZ DEFAULT now() NOT NULL,
        finished_at TIMESTAMPTZ, structures INTEGER DEFAULT '0' NOT NULL,
        sites BIGINT DEFAULT '0' NOT NULL, rejected INTEGER DEFAULT '0' NOT NULL,
        seconds_graph DOUBLE DEFAULT '0' NOT NULL, seconds_forward DOUBLE DEFAULT '0' NOT NULL,
        seconds_wall DOUBLE DEFAULT '0' NOT NULL, checkpoint_sha256 VARCHAR NOT NULL,
        device VARCHAR NOT NULL, dtype VARCHAR NOT NULL, identity JSON NOT NULL
    """,
    "chunks": "id BIGINT PRIMARY KEY, run_id BIGINT NOT NULL",
    "chunk_structures": "chunk_id BIGINT NOT NULL, structure_id VARCHAR NOT NULL",
    "source_structures": "source_id BIGINT NOT NULL, structure_id VARCHAR NOT NULL",
}


def upgrade() -> None:
    op.execute("DELETE FROM table_appends WHERE NOT committed")
    for table in ("deletions", "structure_scores", "atom_scores"):
        op.drop_table(table)
    _remake(
        "structures",
        f"{_STRUCTURES}, distinct_sites INTEGER NOT NULL",
        f"* EXCLUDE ({_BULK}), len(list_distinct(orbits)) AS distinct_sites FROM old",
    )
    _remake("table_appends", _APPENDS, "* EXCLUDE (committed) FROM old")
    _remake("vector_tables", _VECTORS, "* EXCLUDE (version) FROM old")
    for table, columns in _REST.items():
        _remake(table, columns, "* FROM old")
    left = "NOT IN (SELECT chunk_id FROM table_appends)"
    op.execute(f"DELETE FROM chunk_structures WHERE chunk_id {left}")
    op.execute(f"DELETE FROM chunks WHERE id {left}")


def downgrade() -> None:
    raise NotImplementedError("a snapshot is never changed: open an earlier one")


def _remake(table: str, columns: str, select: str) -> None:
    op.rename_table(table, "old")
    op.execute(f"CREATE TABLE {table} ({columns})")
    op.execute(f"INSERT INTO {table} BY NAME SELECT {select}")
    op.drop_table("old")
