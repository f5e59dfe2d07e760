"""The catalogue's shape: what the code says, what migrations make, and other programs' stores."""

import shutil
import subprocess
import sys
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

import duckdb
import filelock
import legacy_stores
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory
from kill_points import Deadly
from store_fakes import MODELS, content, crystals, embedded, know_fakes
from test_kills import holds_what_was_published

from platonic_store.errors import StoreBusy, StoreNotWritable, StoreTooNew
from platonic_store.jobs import runs
from platonic_store.storage import (
    commits,
    files,
    lance_tables,
    manifest,
    migrate,
    quarantine,
    records,
    writer,
)
from platonic_store.storage.revision import REVISION
from platonic_store.store import Store

VIEWS = ("structure", "site", "model", "run", "quarantine", "anchor", "typicality")
POOL = crystals(40)

pytestmark = pytest.mark.usefixtures("fakes")


def test_no_drift_between_tables_and_migrations(store):
    store.ingest(crystals(2))  # with a property, whose column is not a migration's
    with store._writing("check") as one, one.writing() as connection:
        command.check(migrate.config(connection))
        script = ScriptDirectory.from_config(migrate.config(connection))
    assert script.get_current_head() == REVISION == store.snapshot().manifest.revision
    revisions = [one.revision for one in script.walk_revisions()]
    assert revisions == sorted(revisions, reverse=True), "they are compared as text"


def test_drift_would_be_seen(store):
    store.ingest(crystals(2))
    with store._writing("drift") as one, one.writing() as connection:
        connection.execute(sa.text("ALTER TABLE runs ADD COLUMN mood VARCHAR"))
        with pytest.raises(Exception, match="mood"):
            command.check(migrate.config(connection))


def test_a_newer_store_is_refused_in_one_line(store, monkeypatch):
    store.ingest(crystals(2), ["fake-a"])
    with store._writing("tomorrow") as one, one.writing() as connection:
        monkeypatch.setattr(writer, "REVISION", "9999")
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    monkeypatch.undo()
    before = manifest.ids(store.location)
    for use in (
        lambda: store.sql("FROM structure"),
        lambda: Store.open(store.path).sql("FROM structure"),
        lambda: store.ingest(crystals(2)),
        store.doctor,
    ):
        with pytest.raises(StoreTooNew, match="9999") as refused:
            use()
        assert "\n" not in str(refused.value)
    assert manifest.ids(store.location) == before


class Older(NamedTuple):
    """Stores of revisions 0004 and 0005, which no test may write to, and what is in them."""

    folder: Path
    answers: list

    def copy(self, path: Path, revision: str = "0005") -> Path:
        return shutil.copytree(self.folder / f"{revision}.store", path)


@pytest.fixture(scope="module")
def older(tmp_path_factory) -> Older:
    folder = tmp_path_factory.mktemp("older")
    ids = count(1)
    with pytest.MonkeyPatch.context() as patched:
        know_fakes(in_process=True, patch=patched.setattr)
        for module in (commits, records, runs):
            patched.setattr(module, "new_id", lambda: next(ids))
        fill(store := Store.open(folder / "today.store"))
    for revision in ("0004", "0005"):
        legacy_stores.older(store, folder / f"{revision}.store", revision)
    return Older(folder, answers(store))


def fill(store: Store) -> None:
    """Have something of everything in a store."""
    store.ingest({id_: POOL[id_] for id_ in list(POOL)[:30]}, MODELS)
    store.ingest(POOL, MODELS, layers="all")
    with store._writing("reject") as one, one.writing() as connection:
        quarantine.add(connection, None, "fake-a", [("z", "z", "killed its worker twice")])
        connection.execute(
            sa.text("UPDATE models SET name = 'control:b', kind = 'control' WHERE name = 'fake-b'")
        )
    store.select_anchors(k=4, model="fake-a", seed=1)
    store.project(["fake-a"], recipe="cosine")
    store.score(["fake-a"])
    store.delete([next(id_ for id_ in POOL if id_ not in anchored(store))])


def anchored(store: Store) -> set[str]:
    return set(store.sql("SELECT structure_id FROM anchor").structure_id)


def answers(store: Store) -> list:
    views = (store.sql_arrow(f"FROM {view} ORDER BY ALL").to_pylist() for view in VIEWS)
    hits = store.similar("c1", model="fake-a", where="gap > 0")
    return [content(store), *views, hits[["structure_id", "distance"]].values.tolist()]


def is_adopted(path) -> bool:
    """Whether nothing of the older store is left, and older programs will refuse it."""
    with duckdb.connect(str(path / "catalog.duckdb"), read_only=True) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() > [
            ("0005",)
        ]
        assert len(connection.execute("SHOW TABLES").fetchall()) == 1
    gone = ("writer.lock", "published", "catalog.lock", "catalog.turnstile", "catalog.duckdb.wal")
    return not any((path / name).exists() for name in gone)


@pytest.mark.parametrize("revision", ["0004", "0005"])
def test_an_older_store_opens_and_answers_as_before(older, tmp_path, revision):
    path = older.copy(tmp_path / "old.store", revision)
    old = Store.open(path)
    assert answers(old) == older.answers
    assert is_adopted(path)
    assert old.snapshots().snapshot.tolist() == [1]
    assert old.doctor()["problems"] == []
    assert old.snapshot().manifest.revision == REVISION
    old.ingest(crystals(42), ["fake-a"])
    assert embedded(old, "fake-a") == set(crystals(42))
    assert old.doctor()["problems"] == []


def test_an_older_store_is_taken_over_by_its_first_writer(older, tmp_path):
    path = older.copy(tmp_path / "old.store", "0004")
    assert "ATTACH" in Store.open(shutil.copytree(path, tmp_path / "other.store")).init_sql()
    old = Store.open(path)
    old.ingest(crystals(41), ["fake-a"])
    assert is_adopted(path)
    assert answers(Store.open(path, at=1)) == older.answers
    assert len(embedded(old, "fake-a")) == len(POOL) + 1


def test_what_a_killed_older_writer_left_half_done_is_left_out(older, tmp_path):
    """Rows that are in Lance and pending in the catalogue; deletions that were announced."""
    path = older.copy(tmp_path / "old.store")
    uri = str(path / "vectors" / "fake-a.1.atom.lance")
    rows = lance_tables.open_table(uri).to_table().slice(0, 5)
    fragments = lance_tables.write_fragments(uri, rows)
    lance_tables.commit(uri, lance_tables.open_table(uri).version, fragments, [])
    # Killed before DuckDB has put its log into the file.
    program = """
import duckdb, os, sys
connection = duckdb.connect(sys.argv[1])
for statement in (
    "INSERT INTO chunks VALUES (999, 1)",
    "INSERT INTO chunk_structures VALUES (999, 'c1')",
    "INSERT INTO table_appends VALUES ('fake-a.1.atom', 999, 5, false)",
    "INSERT INTO deletions VALUES ('c2')",
    "UPDATE runs SET state = 'running', device = 'abacus'",
):
    connection.execute(statement)
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program, str(path / "catalog.duckdb")], check=False)
    assert (path / "catalog.duckdb.wal").exists()
    old = Store.open(path)
    assert content(old) == older.answers[0]
    assert set(old.sql("FROM run").state) == {"interrupted"}
    assert set(old.sql("FROM run").device) == {"abacus"}, "its log is part of the catalogue"
    assert old.doctor()["problems"] == []
    assert old.snapshot().rows("FROM catalog.main.chunks WHERE id = 999") == []
    assert is_adopted(path)


@pytest.mark.faults
def test_dying_before_every_step_of_taking_over(older, tmp_path, monkeypatch):
    deadly = Deadly(monkeypatch.setattr)

    def open_and_ask(path) -> None:
        assert content(Store.open(path)) == older.answers[0]

    path = older.copy(tmp_path / "undisturbed.store")
    assert not deadly.kills(partial(open_and_ask, path))
    steps = list(dict.fromkeys(deadly.steps))
    for step in (
        "link manifests",
        "unlink catalog.duckdb",
        "unlink published",
        "unlink writer.lock",
    ):
        assert step in steps
    path = older.copy(tmp_path / "0.store")
    for number, what in enumerate(steps, 1):
        if not deadly.kills(partial(open_and_ask, path), what, 1):
            path = older.copy(tmp_path / f"{number}.store")
            assert deadly.kills(partial(open_and_ask, path), what, 1), what
        holds_what_was_published(path, deadly.published, what)
    assert not deadly.kills(partial(open_and_ask, path))
    assert answers(Store.open(path)) == older.answers
    assert Store.open(path).doctor()["problems"] == []
    assert is_adopted(path)


def test_an_older_program_that_writes_keeps_the_store(older, tmp_path):
    path = older.copy(tmp_path / "old.store", "0004")
    before = (path / "catalog.duckdb").read_bytes()
    with filelock.FileLock(path / "writer.lock"):
        for use in (lambda: Store.open(path).sql("FROM run"), Store.open(path).doctor):
            with pytest.raises(StoreBusy, match=r"an older version of .* is writing") as busy:
                use()
            assert "\n" not in str(busy.value)
    assert (path / "catalog.duckdb").read_bytes() == before
    assert not (path / "manifests").exists()
    assert len(Store.open(path).sql("FROM run"))


def test_an_older_store_that_may_not_be_written(older, tmp_path):
    path = older.copy(tmp_path / "old.store", "0004")
    before = {one for one in path.rglob("*") if one.is_file()}
    with pytest.raises(StoreNotWritable, match="opened read-only") as refused:
        Store.open(path, read_only=True).sql("FROM run")
    assert "\n" not in str(refused.value)
    assert {one for one in path.rglob("*") if one.is_file()} == before


def test_a_store_newer_than_taking_over_knows(older, tmp_path):
    path = older.copy(tmp_path / "old.store")
    with duckdb.connect(str(path / "catalog.duckdb")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0006'")
    for use in (lambda: Store.open(path).sql("FROM run"), lambda: Store.open(path).ingest(POOL)):
        with pytest.raises(StoreTooNew, match="0006") as refused:
            use()
        assert "\n" not in str(refused.value)


def test_todays_store_in_tomorrows_program(store, tmp_path, monkeypatch):
    """With one more migration: snapshots of before are read as if they were of then."""
    pool = crystals(3)
    store.ingest(pool, ["fake-a"])
    before, data = store.snapshot().id, store.snapshot().path.read_bytes()
    tomorrow = tmp_path / "tomorrow"
    shutil.copytree(migrate.folder("migrations"), tomorrow / "migrations")
    (tomorrow / "migrations" / "versions" / "9998_mood.py").write_text(
        "import sqlalchemy as sa\n"
        "from alembic import op\n"
        f"revision, down_revision = '9998', '{REVISION}'\n"
        "def upgrade():\n"
        "    op.add_column('runs', sa.Column('mood', sa.String))\n"
    )
    monkeypatch.setenv("PLATONIC_STORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(migrate, "folder", lambda name: tomorrow / name)
    for module in (files, writer):
        monkeypatch.setattr(module, "REVISION", "9998")
    newer = Store.open(store.path)
    assert len(newer.sql("FROM structure")) == 3
    assert newer.snapshot().id == before, "to read it changes nothing"
    assert newer.snapshot().rows("SELECT mood FROM catalog.main.runs") == [(None,)]
    newer.ingest({"new": crystals(1, seed=5)["c0"]}, ["fake-a"])
    assert newer.snapshot().manifest.revision == "9998"
    assert newer.snapshot().path.parent == store.path / "catalog"
    assert embedded(newer, "fake-a") == {"new", *pool}
    earlier = Store.open(store.path, at=before)
    assert earlier.snapshot().rows("SELECT mood FROM catalog.main.runs") == [(None,)]
    assert embedded(earlier, "fake-a") == set(pool)
    monkeypatch.undo()
    with pytest.raises(StoreTooNew):
        Store.open(store.path).sql("FROM structure")
    today = Store.open(store.path, at=before)
    assert today.snapshot().path.read_bytes() == data, "a snapshot is never changed"
    assert len(today.sql("FROM structure")) == 3
