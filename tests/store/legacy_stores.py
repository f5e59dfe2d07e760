"""Stores as programs before snapshots left them: one mutable catalogue with all rows in it."""

import shutil
from pathlib import Path

import sqlalchemy as sa
from alembic import command

from platonic_store.storage import migrate
from platonic_store.storage import tables as t
from platonic_store.store import Store

_SAME = (
    *("sources", "source_structures", "quarantined", "models", "chunks"),
    *("chunk_structures", "anchor_sets", "anchors"),
    "reference_structures",
)


def older(store: Store, path: Path, revision: str = "0004") -> Path:
    """The newest snapshot of a store as an older program would have left it.

    revision: "0004" of version 0.1, or "0005" of a working copy, which had published files. The
    ids of sources, runs and chunks must fit 32 bits.
    """
    snapshot = store.snapshot()
    shutil.copytree(store.path / "vectors", path / "vectors")
    catalog = path / "catalog.duckdb"
    _migrate(catalog, command.upgrade, "0005")
    opened = store._reader.open(snapshot.manifest, allow_files=True)
    connection = opened.cursor()
    connection.execute(f"ATTACH '{catalog}' AS old")
    own = ", ".join(t.structures.c.keys())
    said = f"SELECT id AS structure_id, * EXCLUDE ({own}) FROM catalog.main.structures"
    for name, kind, *_ in connection.execute(f"DESCRIBE {said}").fetchall()[1:]:
        connection.execute(f'ALTER TABLE old.properties ADD COLUMN "{name}" {kind}')
    connection.execute(f"INSERT INTO old.properties BY NAME {said}")
    for table in _SAME:
        connection.execute(f"INSERT INTO old.{table} BY NAME FROM catalog.main.{table}")
    connection.execute(
        "INSERT INTO old.runs BY NAME SELECT * EXCLUDE (outputs) FROM catalog.main.runs"
    )
    connection.execute(
        "INSERT INTO old.spaces BY NAME SELECT s.*, f.content AS targets "
        "FROM catalog.main.spaces AS s LEFT JOIN fitted AS f ON f.name = 'space/' || s.id"
    )
    connection.execute(
        "INSERT INTO old.projections BY NAME SELECT p.*, f.content AS parameters "
        "FROM catalog.main.projections AS p JOIN fitted AS f "
        "ON f.name = 'projection/' || p.space || '/' || p.model || '@' || p.layer"
    )
    connection.execute(
        "INSERT INTO old.reference_sets BY NAME SELECT r.*, f.content AS calibration "
        "FROM catalog.main.reference_sets AS r JOIN fitted AS f ON f.name = 'calibration/' || r.id"
    )
    for table in ("structure_scores", "atom_scores"):
        connection.execute(f"INSERT INTO old.{table} BY NAME FROM {table}")
    connection.execute(
        "INSERT INTO old.structures BY NAME SELECT s.* EXCLUDE (distinct_sites), "
        f"c.* EXCLUDE (structure_id) FROM (SELECT {own} FROM catalog.main.structures) AS s "
        "JOIN crystals AS c ON c.structure_id = s.id"
    )
    connection.execute(
        "INSERT INTO old.table_appends BY NAME SELECT *, true AS committed "
        "FROM catalog.main.table_appends"
    )
    for name, table in snapshot.manifest.vectors.items():
        connection.execute(
            "INSERT INTO old.vector_tables BY NAME SELECT *, ? AS version "
            "FROM catalog.main.vector_tables WHERE name = ?",
            [table.version, name],
        )
    connection.execute("DETACH old")
    if revision == "0004":
        _migrate(catalog, command.downgrade, "0004")
        locks = ("writer.lock", "catalog.lock", "catalog.turnstile")
    else:
        (path / "published").mkdir()
        shutil.copyfile(catalog, path / "published" / "000007.duckdb")
        locks = ("writer.lock",)
    for name in locks:
        (path / name).touch()
    return path


def _migrate(catalog: Path, change, revision: str) -> None:
    engine = sa.create_engine(f"duckdb:///{catalog}")
    with engine.begin() as connection:
        change(migrate.config(connection), revision)
    engine.dispose()
