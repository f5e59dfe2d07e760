"""Revision 0006, with the bulk rows of a catalogue before it kept in files."""

import duckdb
import pyarrow as pa
import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy.pool import NullPool

from platonic_store.storage import bulk, migrate

OLD = """
ALTER TABLE properties ADD COLUMN gap DOUBLE;
ALTER TABLE properties ADD COLUMN "Distinct_Sites" BIGINT;
INSERT INTO properties VALUES ('a', 0.5, 7);
INSERT INTO structures (id, content_hash, formula, elements, nsites, numbers, positions, cell, pbc,
    volume, spacegroup, orbits)
VALUES ('b', 'hb', 'SiO2', ['O', 'Si'], 3, [14, 8, 8], [0, 0, 0, 1, 1, 1, 2, 2, 2],
        [4, 0, 0, 0, 4, 0, 0, 0, 4], [true, true, true], 64, 225, [0, 1, 1]),
    ('a', 'ha', 'H', ['H'], 1, [1], [0, 0, 0.1], [9, 0, 0, 0, 9, 0, 0, 0, 9],
        [false, false, false], NULL, NULL, [0]);
INSERT INTO sources (id, uri) VALUES (1, 'x.csv');
INSERT INTO source_structures VALUES (1, 'a'), (1, 'b');
INSERT INTO runs (id, model, source_id, layers, state, checkpoint_sha256, device, dtype, identity)
VALUES (7, 'm', 1, [0, 2], 'done', 'c', 'cpu', 'float32', '{"torch": "2"}');
INSERT INTO quarantined (source_id, record, reason) VALUES (1, 'c', 'no cell');
INSERT INTO chunks VALUES (1, 7), (2, 7);
INSERT INTO chunk_structures VALUES (1, 'a'), (2, 'b');
INSERT INTO table_appends VALUES ('t', 1, 1, true), ('t', 2, 1, false);
INSERT INTO structure_scores VALUES
    ('r', 'b', 0.5, 0.25, 1, 2, 3, 1, 8, 'a', 0, 0.75, ['a']),
    ('r', 'a', 0.5, 0.125, 1, 2, 3, 0, 1, 'b', 0, 0.75, ['b']);
INSERT INTO atom_scores VALUES
    ('r', 'b', 1, 8, 0.5, 0.25, 1, 2, 3, 'a', 0, 0.75, [1, 2]),
    ('r', 'b', 0, 14, 0.5, 0.25, 1, 2, 3, 'a', 0, 0.75, NULL);
"""


@pytest.fixture
def engine(tmp_path):
    return sa.create_engine(f"duckdb:///{tmp_path / 'catalog.duckdb'}", poolclass=NullPool)


def exported(engine, folder):
    with engine.connect() as connection:
        return bulk.export(connection.connection.driver_connection, folder)


def at_0005(engine, folder):
    with engine.begin() as connection:
        command.upgrade(migrate.config(connection), "0005")
        connection.exec_driver_sql(OLD)
    return exported(engine, folder)


def everything(engine):
    with engine.connect() as connection:
        names = connection.scalars(
            sa.text("SELECT table_name FROM duckdb_tables() WHERE table_name != 'alembic_version'")
        ).all()
        return {
            name: set(map(str, connection.exec_driver_sql(f"FROM {name}").mappings().all()))
            for name in names
        }


def test_bulk_rows_go_to_files_and_nothing_else_changes(engine, tmp_path):
    files = at_0005(engine, tmp_path)
    assert files.keys() == {"crystals", "structure_scores", "atom_scores"}
    before = everything(engine)
    with engine.begin() as connection:
        migrate.upgrade(connection)
        command.check(migrate.config(connection))
    after = everything(engine)

    with duckdb.connect() as connection:
        for table, path in files.items():
            connection.execute(bulk.view(table, [path]))
        crystals = connection.execute("FROM crystals").fetchall()
        scored = connection.execute("SELECT structure_id, p FROM structure_scores").fetchall()
        atoms = connection.execute("SELECT site_index, neighbours FROM atom_scores").fetchall()
    assert crystals == [
        ("a", [1], [0, 0, 0.1], [9, 0, 0, 0, 9, 0, 0, 0, 9], [False] * 3, [0]),
        (
            *("b", [14, 8, 8], [0, 0, 0, 1, 1, 1, 2, 2, 2], [4, 0, 0, 0, 4, 0, 0, 0, 4]),
            *([True] * 3, [0, 1, 1]),
        ),
    ]
    assert scored == [("a", 0.125), ("b", 0.25)]
    assert atoms == [(0, None), (1, [1, 2])]

    assert after.keys() - before.keys() == {"layouts", "older_parameters", "covers"}
    after["runs"] = {run.replace(", 'outputs': None", "") for run in after["runs"]}
    changed = {"structures", "table_appends", "chunks", "chunk_structures"}
    same = (before.keys() & after.keys()) - changed
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert before.keys() - after.keys() == {
        "deletions",
        "structure_scores",
        "atom_scores",
        "properties",
    }
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            'SELECT id, distinct_sites, gap, "source_Distinct_Sites" FROM structures ORDER BY id'
        )
        assert rows.all() == [("a", 1, 0.5, 7), ("b", 2, None, None)]
        # What was not committed is gone with its chunk.
        assert connection.exec_driver_sql("FROM table_appends").all() == [("t", 1, 1)]
        assert connection.exec_driver_sql("FROM chunk_structures").all() == [(1, "a")]
        assert connection.exec_driver_sql("FROM chunks").all() == [(1, 7)]


def test_ids_are_random_numbers_of_53_bits(engine):
    from platonic_store.storage.ids import new_id

    with engine.begin() as connection:
        migrate.upgrade(connection)
        for id_ in (new_id(), 2**53 - 1):
            connection.execute(sa.text("INSERT INTO chunks VALUES (:id, :id)"), {"id": id_})
    assert len({new_id() for _ in range(1000)}) == 1000


def test_a_catalogue_without_rows_has_no_files(engine, tmp_path):
    with engine.begin() as connection:
        command.upgrade(migrate.config(connection), "0005")
    assert exported(engine, tmp_path) == {}


def test_exported_rows_have_the_schema_of_those_written_later(engine, tmp_path):
    from pyarrow import parquet

    for table, path in at_0005(engine, tmp_path).items():
        assert parquet.read_schema(path) == bulk.SCHEMAS[table]
        rows = pa.Table.from_batches(parquet.read_table(path).to_batches())
        assert bulk.write(rows, table, tmp_path) == path
