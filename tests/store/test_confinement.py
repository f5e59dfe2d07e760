"""What SQL from a user can reach: the store, and nothing else, to read and never to write."""

import pytest
from store_fakes import crystals, know_fakes

from platonic_store.errors import InvalidQuery
from platonic_store.storage.sqltext import require_select
from platonic_store.store import Store


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Store:
    store = Store.open(tmp_path_factory.mktemp("confined") / "filled.store")
    with pytest.MonkeyPatch.context() as patched:
        know_fakes(in_process=True, patch=patched.setattr)
        store.ingest(crystals(4), ["fake-a"])
    return store


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder, with the one that DuckDB would take for temporary files."""
    folder = tmp_path / "here"
    (folder / ".tmp").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    "where",
    [
        "1=1); COPY (SELECT 1) TO 'out.csv'; SELECT structure_id FROM structure WHERE (1=1",
        "1=1; COPY (SELECT 1) TO 'out.csv'",
        "1=1\n); COPY (SELECT 1) TO '.tmp/out.csv'; --",
        "1=1) OR (1=1",
        "1=1 -- \n) OR (1=1",
        "1=1) UNION SELECT structure_id FROM structure WHERE (1=1",
        "1=1 UNION SELECT structure_id FROM structure",
        "true, true",
        "true AS structure_id",
        "DISTINCT true",
        "true FROM structure",
        "true WHERE true",
        "true ORDER BY 1",
        "true LIMIT 1",
        "true GROUP BY ALL",
        "true;",
        "/* true",
        "-- true",
        "",
        "nsites > ?",
        "nsites > $n",
        "nsites = (SELECT count(*) FROM read_csv('secret.csv'))",
        "nsites = (SELECT count(*) FROM glob('*'))",
        "nsites > (SELECT count(*) FROM enable_logging(storage = 'memory'))",
        "nsites > (SELECT count(*) FROM query('SELECT 1'))",
        "nsites = (SELECT count(*) FROM 'secret.csv')",
        "nsites = (SELECT count(*) FROM read_blob('/etc/passwd'))",
    ],
)
def test_a_condition_is_one_expression_over_the_store(filled, here, where):
    (here / "secret.csv").write_text("n\n1\n")
    for arguments in ({}, {"site": 0}):
        with pytest.raises(InvalidQuery) as refused:
            filled.similar("c1", where=where, **arguments)
        assert "\n" not in str(refused.value)
    assert {path.name for path in here.rglob("*")} == {".tmp", "secret.csv"}


@pytest.mark.parametrize(
    "where",
    [
        "nsites > 0",
        "nsites > 0 -- all",
        "(nsites) > (0)",
        "formula != '); DROP TABLE x; --'",
        "nsites > 0 /* ) */ AND true",
        "structure_id IN (SELECT structure_id FROM structure WHERE nsites > 0)",
        "CASE WHEN nsites > 0 THEN true ELSE false END",
    ],
)
def test_any_one_expression_is_a_condition(filled, where):
    assert len(filled.similar("c1", where=where)) == 3


def files_of(store: Store) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in store.path.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "query",
    [
        "COPY (SELECT 1) TO '.tmp/out.csv'",
        "COPY (SELECT 1) TO '{crystals}' (FORMAT csv, USE_TMP_FILE false)",
        "COPY crystals TO '{crystals}'",
        "COPY (SELECT 1) TO '{published}' (FORMAT csv, USE_TMP_FILE false)",
        "COPY (SELECT 1) TO '{published}.wal' (FORMAT csv, USE_TMP_FILE false)",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{published}' (FORMAT csv, USE_TMP_FILE false)",
        "SELECT 1; COPY (SELECT 1) TO '{published}' (FORMAT csv, USE_TMP_FILE false)",
        "CALL enable_logging(storage = 'file', storage_config = {{'path': '.tmp'}})",
        "FROM enable_logging(storage = 'file', storage_config = {{'path': '.tmp'}})",
        "SELECT (SELECT count(*) FROM system.main.\"Enable_Logging\" /* ( */ (storage = 'memory'))",
        "FROM U&\"enable\\005flogging\"(storage = 'memory')",
        "FROM query('FROM enable_' || 'logging(storage = ''memory'')')",
        "FROM json_execute_serialized_sql(json_serialize_sql('FROM structure'))",
        "PIVOT (FROM enable_logging(storage = 'memory')) ON nsites",
        "FROM disable_logging()",
        "FROM force_checkpoint('catalog')",
        "DROP VIEW structure",
        "DETACH catalog",
        "SET VARIABLE x = 1",
        "",
    ],
)
def test_sql_writes_nowhere(filled, here, query):
    before = files_of(filled)
    snapshot = filled.snapshot()
    (crystals,) = snapshot.row_files["crystals"]
    with pytest.raises(InvalidQuery):
        filled.sql(query.format(published=snapshot.path, crystals=crystals))
    assert [path.name for path in here.rglob("*")] == [".tmp"]
    assert files_of(filled) == before
    assert len(filled.sql("FROM structure")) == 4


def test_an_instance_is_confined_even_where_any_statement_is_run(filled, here):
    (here / "secret.csv").write_text("n\n1\n")
    connection = filled.snapshot().cursor()
    frame = filled.sql("FROM structure")
    assert len(frame) == 4
    other = next(filled.path.rglob("*.lance/_versions/*"))
    before = files_of(filled)
    for statement in (
        f"FROM read_text('{other}')",
        f"FROM glob('{filled.path}/*')",
        f"COPY (SELECT 1) TO '{filled.path}/rows/crystals/new.parquet'",
        "COPY (SELECT 1) TO 'out.csv'",
        "COPY (SELECT 1) TO './.tmp/out.csv'",
        "FROM 'secret.csv'",
        "FROM frame",
        "ATTACH 'other.duckdb'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET temp_directory = '.tmp'",
        "SET allowed_directories = ['.']",
        "RESET lock_configuration",
        "DELETE FROM catalog.main.structures",
    ):
        with pytest.raises(Exception, match=r"(?i)disabled|locked|does not exist|read-only"):
            connection.execute(statement)
    assert {path.name for path in here.rglob("*")} == {".tmp", "secret.csv"}
    assert files_of(filled) == before


def test_functions_are_made_in_a_confined_instance(filled):
    snapshot = filled._reader.open(filled.snapshot().manifest)
    snapshot.connection.create_function("twice", lambda x: 2 * x, ["BIGINT"], "BIGINT")
    assert snapshot.rows("SELECT twice(21)") == [(42,)]


def test_files_are_for_those_who_say_so(filled, here):
    (here / "mine.csv").write_text("structure_id,note\nc1,blue\n")
    query = "SELECT note FROM 'mine.csv' JOIN structure USING (structure_id)"
    found = filled.sql(query, allow_files=True)
    assert found["note"].tolist() == ["blue"]
    filled.sql("COPY (SELECT 1) TO 'out.csv'", allow_files=True)
    assert (here / "out.csv").exists()


@pytest.mark.parametrize(
    "query",
    [
        "FROM structure",
        "WITH a AS (SELECT 1) FROM a;",
        "DESCRIBE structure",
        "SHOW TABLES",
        "VALUES (1)",
        "SELECT 'enable_logging(', nsites AS query FROM structure -- query()",
        "SUMMARIZE structure",
        "PIVOT structure ON spacegroup USING count(*)",
    ],
)
def test_whatever_only_reads_is_run(query):
    require_select(query)
