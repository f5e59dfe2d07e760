"""The catalogue's shape: what the code says, what migrations make, and other programs' stores."""

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory
from store_fakes import crystals, embedded

from platonic_store.errors import StoreTooNew
from platonic_store.storage import catalog as module
from platonic_store.storage import migrate
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


def test_an_older_store_is_brought_up_to_date_by_its_first_use(store, tmp_path, monkeypatch):
    """Tomorrow's program, with one more migration, opens today's store."""
    import shutil

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
