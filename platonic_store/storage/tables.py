"""The catalogue's tables.

No foreign keys and no secondary indexes: DuckDB refuses updates and `ALTER` under them, so
`Store.doctor` checks the references instead. `structures` gains a column for every property that
a source brings; all other changes of shape go through a migration.
"""

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "pk": "%(table_name)s_pkey",
    }
)

_now = sa.text("now()")
_timestamp = sa.TIMESTAMP(timezone=True)

sources = sa.Table(
    "sources",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("uri", sa.String, nullable=False),
    sa.Column("first_read_at", _timestamp, server_default=_now, nullable=False),
)

structures = sa.Table(
    "structures",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("content_hash", sa.String, nullable=False),
    sa.Column("formula", sa.String, nullable=False),
    sa.Column("elements", sa.ARRAY(sa.String), nullable=False),
    sa.Column("nsites", sa.Integer, nullable=False),
    # How many of its sites no symmetry makes equivalent.
    sa.Column("distinct_sites", sa.Integer, nullable=False),
    sa.Column("volume", sa.Double),
    sa.Column("spacegroup", sa.SmallInteger),
    sa.Column("added_at", _timestamp, server_default=_now, nullable=False),
)

# No key here, in `chunk_structures` and in `reference_structures`: an index outweighs the rows.
source_structures = sa.Table(
    "source_structures",
    metadata,
    sa.Column("source_id", sa.BigInteger, nullable=False),
    sa.Column("structure_id", sa.String, nullable=False),
)

quarantined = sa.Table(
    "quarantined",
    metadata,
    sa.Column("source_id", sa.BigInteger),
    sa.Column("record", sa.String, nullable=False),
    sa.Column("structure_id", sa.String),
    sa.Column("model", sa.String),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("at", _timestamp, server_default=_now, nullable=False),
)

models = sa.Table(
    "models",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("family", sa.String, nullable=False),
    sa.Column("checkpoint_sha256", sa.String, nullable=False),
    sa.Column("default_layer", sa.Integer, nullable=False),
    sa.Column("card", sa.JSON, nullable=False),
    # "trained" or "control"
    sa.Column("kind", sa.String, nullable=False, server_default="trained"),
    sa.Column("added_at", _timestamp, server_default=_now, nullable=False),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("source_id", sa.BigInteger),
    sa.Column("layers", sa.ARRAY(sa.Integer), nullable=False),
    # "energy" and "forces", where they were asked for.
    sa.Column("outputs", sa.ARRAY(sa.String)),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("started_at", _timestamp, server_default=_now, nullable=False),
    sa.Column("finished_at", _timestamp),
    sa.Column("structures", sa.Integer, nullable=False, server_default="0"),
    sa.Column("sites", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("rejected", sa.Integer, nullable=False, server_default="0"),
    sa.Column("seconds_graph", sa.Double, nullable=False, server_default="0"),
    sa.Column("seconds_forward", sa.Double, nullable=False, server_default="0"),
    sa.Column("seconds_wall", sa.Double, nullable=False, server_default="0"),
    sa.Column("checkpoint_sha256", sa.String, nullable=False),
    sa.Column("device", sa.String, nullable=False),
    sa.Column("dtype", sa.String, nullable=False),
    sa.Column("identity", sa.JSON, nullable=False),
)

vector_tables = sa.Table(
    "vector_tables",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("space", sa.String),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("layer", sa.Integer, nullable=False),
    sa.Column("level", sa.String, nullable=False),
    sa.Column("dim", sa.Integer, nullable=False),
)

chunks = sa.Table(
    "chunks",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("run_id", sa.BigInteger, nullable=False),
)

chunk_structures = sa.Table(
    "chunk_structures",
    metadata,
    sa.Column("chunk_id", sa.BigInteger, nullable=False),
    sa.Column("structure_id", sa.String, nullable=False),
)

table_appends = sa.Table(
    "table_appends",
    metadata,
    sa.Column("table_name", sa.String, primary_key=True),
    sa.Column("chunk_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
)

anchor_sets = sa.Table(
    "anchor_sets",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("method", sa.String, nullable=False),
    sa.Column("model", sa.String),
    sa.Column("layer", sa.Integer),
    sa.Column("seed", sa.Integer),
    sa.Column("created_at", _timestamp, server_default=_now, nullable=False),
)

anchors = sa.Table(
    "anchors",
    metadata,
    sa.Column("anchor_set", sa.String, primary_key=True),
    sa.Column("rank", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("structure_id", sa.String, nullable=False),
    sa.Column("site_index", sa.Integer, nullable=False),
)

spaces = sa.Table(
    "spaces",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("recipe", sa.String, nullable=False),
    sa.Column("anchor_set", sa.String, nullable=False),
    sa.Column("created_at", _timestamp, server_default=_now, nullable=False),
    sa.Column("agreement", sa.JSON),
)

projections = sa.Table(
    "projections",
    metadata,
    sa.Column("space", sa.String, primary_key=True),
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("layer", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("created_at", _timestamp, server_default=_now, nullable=False),
)

# What catalogues before 0009 and 0013 held, until the store is written to; then it is bulk rows.
older_parameters = sa.Table(
    "older_parameters",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
)

reference_sets = sa.Table(
    "reference_sets",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("layer", sa.Integer, nullable=False),
    sa.Column("among", sa.String),
    sa.Column("seed", sa.Integer, nullable=False),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("created_at", _timestamp, server_default=_now, nullable=False),
)

reference_structures = sa.Table(
    "reference_structures",
    metadata,
    sa.Column("reference", sa.String, nullable=False),
    sa.Column("structure_id", sa.String, nullable=False),
    sa.Column("part", sa.String, nullable=False),
)

# A layout of the map a level, "structure" and "atom"; its points are bulk rows.
layouts = sa.Table(
    "layouts",
    metadata,
    sa.Column("level", sa.String, primary_key=True),
    sa.Column("space", sa.String, nullable=False),
    # MODEL@LAYER each: whose mean is the consensus.
    sa.Column("models", sa.ARRAY(sa.String), nullable=False),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("created_at", _timestamp, server_default=_now, nullable=False),
)

# Of a store that was thinned: how few atoms stand for all, by a layer of a model.
covers = sa.Table(
    "covers",
    metadata,
    sa.Column("model", sa.String, primary_key=True),
    sa.Column("layer", sa.Integer, primary_key=True, autoincrement=False),
    # Cosine distance.
    sa.Column("radius", sa.Double, nullable=False),
    sa.Column("loss", sa.JSON, nullable=False),
    sa.Column("created_at", _timestamp, server_default=_now, nullable=False),
)
