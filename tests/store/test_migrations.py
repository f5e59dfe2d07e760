"""The catalogue's shape: what the code says, what migrations make, and other programs' stores."""

import shutil

import duckdb
import filelock
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory
from store_fakes import MODELS, content, crystals, embedded

from platonic_store.errors import StoreNotWritable, StoreTooNew
from platonic_store.storage import catalog as module
from platonic_store.storage import migrate
from platonic_store.storage.catalog import Catalog
from platonic_store.store import Store


def test_no_drift_between_tables_and_migrations(store):
    store.ingest(crystals(2))  # with a property, whose column is not a migration's
    with store.catalog.writing() as connection:
        command.check(migrate.config(connection))
        script = ScriptDirectory.from_config(migrate.config(connection))
    assert script.get_current_head() == module.REVISION == store.catalog.revision()
    revisions = [one.revision for one in script.walk_revisions()]
    assert revisions == sorted(revisions, reverse=True), "they are compared as text"


def test_drift_would_be_seen(store):
    store.ingest(crystals(2))
    with store.catalog.writing() as connection:
        connection.execute(sa.text("ALTER TABLE runs ADD COLUMN mood VARCHAR"))
        with pytest.raises(Exception, match="mood"):
            command.check(migrate.config(connection))


def test_a_newer_store_is_refused_in_one_line(store):
    store.ingest(crystals(2), ["fake-a"])
    with store.catalog.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreTooNew, match="9999"):
        store.ingest(crystals(2))
    store.catalog.publish()
    for use in (
        lambda: Store.open(store.path),
        lambda: store.sql("FROM structure"),
        lambda: store.ingest(crystals(2)),
        store.doctor,
    ):
        with pytest.raises(StoreTooNew, match="9999") as refused:
            use()
        assert "\n" not in str(refused.value)


def age(store: Store) -> None:
    """Leave the store as version 0.1 would have: revision 0004, and nothing published."""
    with store.catalog.writing() as connection:
        command.downgrade(migrate.config(connection), "0004")
        tables = set(connection.scalars(sa.text("SELECT table_name FROM duckdb_tables()")))
        columns = connection.execute(sa.text("DESCRIBE models")).scalars().all()
    assert "fills" in tables
    assert "table_appends" not in tables
    assert "kind" not in columns
    shutil.rmtree(store.path / "published")


def test_the_old_shape_is_what_the_old_migrations_make(store, tmp_path):
    store.ingest(crystals(2))
    age(store)
    store.catalog.path.rename(tmp_path / "downgraded.duckdb")
    fresh = Catalog(tmp_path / "fresh.duckdb")
    with fresh.writing() as connection:
        command.upgrade(migrate.config(connection), "0004")
    shapes = []
    for name in ("downgraded", "fresh"):
        with duckdb.connect(str(tmp_path / f"{name}.duckdb"), read_only=True) as connection:
            shapes.append(
                connection.execute(
                    "SELECT table_name, column_name, data_type, is_nullable, column_default "
                    "FROM duckdb_columns() WHERE NOT internal AND table_name != 'properties'"
                ).fetchall()
            )
    assert set(shapes[0]) == set(shapes[1])


def test_a_store_of_0_1_opens_and_answers_as_before(store, tmp_path):
    pool = crystals(6)
    store.ingest(pool, MODELS)
    with store.catalog.writing() as connection:
        connection.execute(
            sa.text("UPDATE models SET name = 'control:b', kind = 'control' WHERE name = 'fake-b'")
        )
    store.catalog.publish()
    expected, hits = content(store), store.similar("c1", model="fake-a", where="gap > 0")
    found = store.sql("SELECT name, kind FROM model ORDER BY name")
    assert found.values.tolist() == [["control:b", "control"], ["fake-a", "trained"]]
    age(store)
    old = Store.open(store.path)
    assert old.similar("c1", model="fake-a", where="gap > 0").equals(hits)
    assert content(old) == expected
    assert old.sql("SELECT name, kind FROM model ORDER BY name").equals(found)
    assert old.catalog.revision() == module.REVISION
    assert old.doctor()["problems"] == []
    age(old)
    assert "ATTACH" in old.init_sql()
    old.ingest(crystals(8), ["fake-a"])
    assert embedded(old, "fake-a") == set(crystals(8))


def test_a_store_of_0_1_that_a_reader_may_not_write(store, monkeypatch):
    """Where it is current, as on a read-only disk, the working file itself is opened."""
    store.ingest(crystals(3), ["fake-a"])
    expected = content(store)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    shutil.rmtree(store.path / "published")
    old = Store.open(shutil.copytree(store.path, store.path.with_name("old.store")))
    age(old)
    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    reader = Store.open(store.path)
    assert reader.catalog.published() == store.catalog.path
    assert content(reader) == expected
    assert not (store.path / "published").exists()
    with pytest.raises(StoreNotWritable, match="Permission denied"):
        Store.open(old.path).similar("c1")


def test_an_older_store_is_brought_up_to_date_by_its_first_use(store, tmp_path, monkeypatch):
    """Tomorrow's program, with one more migration, opens today's store."""
    pool = crystals(3)
    store.ingest(pool, ["fake-a"])
    tomorrow = tmp_path / "tomorrow"
    shutil.copytree(migrate.folder("migrations"), tomorrow / "migrations")
    (tomorrow / "migrations" / "versions" / "9998_mood.py").write_text(
        "import sqlalchemy as sa\n"
        "from alembic import op\n"
        f"revision, down_revision = '9998', '{module.REVISION}'\n"
        "def upgrade():\n"
        "    op.add_column('runs', sa.Column('mood', sa.String))\n"
    )
    monkeypatch.setattr(migrate, "folder", lambda name: tomorrow / name)
    monkeypatch.setattr(module, "REVISION", "9998")
    newer = Store.open(store.path)
    assert len(newer.sql("FROM structure")) == 3
    assert newer.catalog.revision() == "9998", "views are of today's tables"
    newer.ingest(pool, ["fake-a"])
    assert newer.sql("FROM run").mood.isna().all()
    assert embedded(newer, "fake-a") == set(pool)
    monkeypatch.undo()
    with pytest.raises(StoreTooNew):
        Store.open(store.path)
