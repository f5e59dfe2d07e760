"""What was fitted is bulk rows; older catalogues hold it in tables, until they are written to."""

import sqlalchemy as sa
from alembic import command
from store_fakes import crystals, pipeline

from platonic_store.storage import lookup, migrate
from platonic_store.storage.snapshot import ModelLayer
from platonic_store.store import Store


def migrated(folder, revision, *rows):
    """A catalogue of an older revision with some rows, after its migration."""
    engine = sa.create_engine(f"duckdb:///{folder / 'catalog.duckdb'}")
    with engine.begin() as connection:
        command.upgrade(migrate.config(connection), revision)
        for sql in rows:
            connection.exec_driver_sql(sql)
    with engine.begin() as connection:
        migrate.upgrade(connection)
    return engine


def test_a_migration_keeps_what_was_fitted(tmp_path):
    engine = migrated(
        tmp_path,
        "0007",
        "INSERT INTO spaces (id, recipe, anchor_set) VALUES ('s', 'cosine', 'a')",
        "INSERT INTO spaces (id, recipe, anchor_set, targets) "
        "VALUES ('t', 'aligned', 'a', 'targets'::BLOB)",
        "INSERT INTO projections (space, model, layer, parameters) "
        "VALUES ('t', 'm', 2, 'weights'::BLOB)",
        "INSERT INTO layouts (level, space, models, settings, parameters) "
        "VALUES ('atom', 't', ['m@2'], '{}', 'scale'::BLOB)",
    )
    with engine.connect() as connection:
        kept = connection.exec_driver_sql("FROM older_parameters ORDER BY name").all()
        spaces = connection.exec_driver_sql("SELECT id, recipe FROM spaces ORDER BY id").all()
    assert kept == [
        ("layout/atom", b"scale"),
        (lookup.projection_name("t", ModelLayer("m", 2)), b"weights"),
        ("space/t", b"targets"),
    ]
    assert spaces == [("s", "cosine"), ("t", "aligned")]


def test_the_next_writer_moves_them_out_of_the_catalogue(fakes, tmp_path):
    store = Store.open(tmp_path / "a.store")
    pipeline(store, crystals(20), tmp_path)
    before = store.snapshot().rows("FROM fitted ORDER BY name")
    assert before
    with store._writing("as an older program") as writer, writer.writing() as connection:
        older = "INSERT INTO older_parameters SELECT * FROM parameters"
        connection.exec_driver_sql(older)
        writer.clear_rows("parameters")
    older = store.snapshot()
    assert older.rows("FROM fitted ORDER BY name") == before
    assert not older.row_files["parameters"]
    with store._writing("anything"):
        pass
    newer = store.snapshot()
    assert newer.rows("FROM fitted ORDER BY name") == before
    assert not newer.rows("FROM catalog.main.older_parameters")


def test_a_migration_keeps_calibrations_and_covers(tmp_path):
    engine = migrated(
        tmp_path,
        "0012",
        "INSERT INTO reference_sets (id, model, layer, seed, settings, calibration) "
        "VALUES ('r', 'm', 2, 0, '{}', 'scores'::BLOB)",
        "INSERT INTO reference_structures VALUES ('r', 's', 'typical')",
        "INSERT INTO covers (model, layer, radius, loss, background) "
        "VALUES ('m', 2, 0.1, '{}', 'census'::BLOB)",
    )
    with engine.connect() as connection:
        kept = connection.exec_driver_sql("FROM older_parameters ORDER BY name").all()
        sets = connection.exec_driver_sql("SELECT id, model, layer FROM reference_sets").all()
        covers = connection.exec_driver_sql("SELECT model, radius FROM covers").all()
        members = connection.exec_driver_sql("FROM reference_structures").all()
    assert kept == [
        (lookup.calibration_name("r"), b"scores"),
        (lookup.cover_name(ModelLayer("m", 2)), b"census"),
    ]
    assert members == [("r", "s", "typical")]
    assert (sets, covers) == ([("r", "m", 2)], [("m", 0.1)])
