"""`doctor` sees what the parts of a store do not agree on, and does no harm by looking."""

import os
import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa
from store_fakes import content, crystals
from typer.testing import CliRunner

from platonic_store import cli
from platonic_store.storage import lance_tables, manifest
from platonic_store.storage import tables as t
from platonic_store.store import Store

ATOMS = "fake-a.1.atom"


def rows_of(store, name):
    """All rows of a vector table, as Lance gives them."""
    return store.snapshot()._vectors._open(name).to_table()


@pytest.fixture
def filled(store) -> Store:
    store.ingest(crystals(8), ["fake-a"])
    store.ingest({f"x{id_}": atoms for id_, atoms in crystals(4, seed=1).items()}, ["fake-a"])
    assert store.doctor()["problems"] == []
    return store


def rows_deleted(store):
    with store._writing("damage") as writer, writer.writing():
        writer.delete(ATOMS, "structure_id = 'c3'")


def rows_added(store):
    with store._writing("damage") as writer, writer.writing():
        writer.append(ATOMS, rows_of(store, ATOMS).slice(0, 1))


def files_removed(store):
    for file in (store.path / "vectors" / f"{ATOMS}.lance" / "data").iterdir():
        file.unlink()


def files_truncated(store):
    for file in (store.path / "vectors" / f"{ATOMS}.lance" / "data").iterdir():
        os.truncate(file, 10)


def table_removed(store):
    shutil.rmtree(store.path / "vectors" / f"{ATOMS}.lance")


def structure_forgotten(store):
    with store._writing("damage") as writer, writer.writing() as connection:
        connection.execute(sa.delete(t.structures).where(t.structures.c.id == "c3"))


def structure_counted_twice(store):
    with store._writing("damage") as writer, writer.writing() as connection:
        chunks = connection.scalars(sa.select(t.chunk_structures.c.chunk_id).distinct()).all()
        where = t.chunk_structures.c.structure_id == "c3"
        own = connection.scalar(sa.select(t.chunk_structures.c.chunk_id).where(where))
        (other,) = set(chunks) - {own}
        connection.execute(sa.insert(t.chunk_structures).values(chunk_id=other, structure_id="c3"))


def crystal_lost(store):
    with store._writing("damage") as writer, writer.writing():
        writer.delete_rows("crystals", "structure_id = 'c3'")


def crystal_twice(store):
    crystals = store.snapshot().cursor().execute("FROM crystals LIMIT 1").to_arrow_table()
    with store._writing("damage") as writer, writer.writing():
        writer.add_rows("crystals", crystals)


def table_unknown(store):
    with store._writing("damage") as writer, writer.writing() as connection:
        connection.execute(sa.delete(t.vector_tables).where(t.vector_tables.c.name == ATOMS))


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
        crystal_lost,
        crystal_twice,
        table_unknown,
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


def test_compaction_that_dies_leaves_the_published_version(filled, monkeypatch):
    filled.delete(["c3", "c4", "c5"])  # leaves something to compact
    before, at = content(filled), filled.snapshot().manifest

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    compacted = {}
    maintain = lance_tables.maintain

    def noted(uri, version, options):
        found = maintain(uri, version, options)
        compacted[Path(uri).stem] = found.version
        return found

    monkeypatch.setattr(lance_tables, "maintain", noted)
    with monkeypatch.context() as patched:
        patched.setattr(manifest, "create", die)
        with pytest.raises(Killed):
            filled.doctor()
    assert compacted.keys() == at.vectors.keys()
    assert all(version > at.vectors[name].version for name, version in compacted.items())
    reader = Store.open(filled.path)
    assert reader.snapshot().manifest == at
    assert content(reader) == before
    assert reader.doctor()["problems"] == []
    assert reader.snapshot().id == at.id + 1
    assert content(reader) == before
