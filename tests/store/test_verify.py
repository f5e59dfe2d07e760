"""`doctor` sees what happened behind the catalogue's back, and does no harm by looking."""

import os
import shutil
from datetime import timedelta

import pytest
import sqlalchemy as sa
from store_fakes import content, crystals
from typer.testing import CliRunner

from platonic_store import cli
from platonic_store.storage import commits, vectors
from platonic_store.storage import tables as t
from platonic_store.store import Store

ATOMS = "fake-a.1.atom"


@pytest.fixture
def filled(store) -> Store:
    store.ingest(crystals(8), ["fake-a"])
    store.ingest({f"x{id_}": atoms for id_, atoms in crystals(4, seed=1).items()}, ["fake-a"])
    assert store.doctor()["problems"] == []
    return store


def rows_deleted(store):
    store.vectors.delete(ATOMS, "structure_id = 'c3'")


def rows_added(store):
    with store.snapshot() as snapshot:
        (table,) = [table for table in snapshot.tables if table.name == ATOMS]
        (batch, *_) = store.vectors.read(
            ATOMS, table.version, [*vectors.key_names("atom"), "vector"]
        )
    store.vectors.append(ATOMS, batch.slice(0, 1))


def files_removed(store):
    for file in (store.vectors.folder / f"{ATOMS}.lance" / "data").iterdir():
        file.unlink()


def files_truncated(store):
    for file in (store.vectors.folder / f"{ATOMS}.lance" / "data").iterdir():
        os.truncate(file, 10)


def table_removed(store):
    shutil.rmtree(store.vectors.folder / f"{ATOMS}.lance")


def structure_forgotten(store):
    with store.catalog.writing() as connection:
        connection.execute(sa.delete(t.structures).where(t.structures.c.id == "c3"))


def structure_counted_twice(store):
    with store.catalog.writing() as connection:
        chunks = connection.scalars(sa.select(t.chunk_structures.c.chunk_id).distinct()).all()
        where = t.chunk_structures.c.structure_id == "c3"
        own = connection.scalar(sa.select(t.chunk_structures.c.chunk_id).where(where))
        (other,) = set(chunks) - {own}
        connection.execute(sa.insert(t.chunk_structures).values(chunk_id=other, structure_id="c3"))


@pytest.mark.parametrize(
    "damage",
    [
        rows_deleted,
        rows_added,
        files_removed,
        files_truncated,
        table_removed,
        structure_forgotten,
        structure_counted_twice,
    ],
)
def test_damage_is_found_and_stays_found(filled, damage):
    damage(filled)
    for _ in range(2):
        problems = Store.open(filled.path).doctor()["problems"]
        assert problems
        assert all("\n" not in problem for problem in problems)
    result = CliRunner().invoke(cli.app, ["doctor", "--store", str(filled.path)])
    assert result.exit_code == 1
    assert problems[0] in " ".join((result.output + result.stderr).split())


def test_a_deletion_does_not_hide_damage(filled):
    rows_deleted(filled)
    filled.delete(["c4"])
    assert filled.doctor()["problems"]


def test_compaction_that_dies_leaves_the_committed_version(filled, monkeypatch):
    """Even where every version is old enough to be forgotten."""
    before = content(filled)
    monkeypatch.setattr(vectors, "KEEP_VERSIONS", timedelta())
    monkeypatch.setattr(vectors, "_MARGIN", timedelta())

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    for name in ("fake-a.1.atom", "fake-a.1.structure"):
        filled.vectors.delete(name, "false")  # so that the newest version is another
    with monkeypatch.context() as patched:
        patched.setattr(commits, "commit_versions", die)
        with pytest.raises(Killed):
            filled.doctor()
    reader = Store.open(filled.path)
    assert content(reader) == before
    assert reader.doctor()["problems"] == []
