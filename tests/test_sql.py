import re
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from ase.build import bulk

from platonic_store.errors import InvalidQuery, StructureNotFound
from platonic_store.resources import folder
from platonic_store.sql.functions import functions
from platonic_store.store import Store

ROOT = Path(__file__).parent.parent
VIEWS = ("structure", "site", "model", "run", "quarantine", "anchor", "projection")


@pytest.mark.parametrize("view", VIEWS)
def test_views_have_rows(prototypes, view):
    assert prototypes.sql(f"SELECT count(*) AS n FROM {view}")["n"][0] > 0


def test_functions_answer_like_python(prototypes):
    by_python = prototypes.similar("Spinel", across="chgnet-0.3.0", k=5)
    by_sql = prototypes.sql("FROM similar_structures('Spinel', across := 'chgnet-0.3.0', k := 5)")
    assert by_sql["structure_id"].tolist() == by_python["structure_id"].tolist()
    assert by_sql["distance"].tolist() == by_python["distance"].tolist()
    atoms = prototypes.sql("FROM similar_atoms('Spinel', 4, k := 5, \"where\" := 'nsites < 9')")
    assert (
        atoms["structure_id"].tolist()
        == prototypes.similar("Spinel", site=4, k=5, where="nsites < 9")["structure_id"].tolist()
    )


def test_functions_in_joins_subqueries_and_ctes(prototypes):
    lateral = prototypes.sql(
        "SELECT s.structure_id, n.structure_id AS other, n.distance FROM structure AS s, "
        "similar_structures(s.structure_id, k := 2) AS n WHERE s.nsites = 2 AND s.nelements = 2"
    )
    assert (lateral.groupby("structure_id").size() == 2).all()
    assert (lateral["structure_id"] != lateral["other"]).all()
    subquery = prototypes.sql(
        "FROM similar_structures((SELECT structure_id FROM structure WHERE mineral = 'Spinel'), "
        "k := 3)"
    )
    assert (
        subquery["structure_id"].tolist()
        == prototypes.similar("Spinel", k=3)["structure_id"].tolist()
    )
    cte = prototypes.sql(
        "WITH near AS (FROM similar_structures('Spinel', k := 20)) "
        "SELECT nelements, count(*) AS n FROM near GROUP BY nelements"
    )
    assert cte["n"].sum() == 20


def test_a_vector_can_be_asked_for(prototypes):
    found = prototypes.sql("FROM similar_structures(embedding('Spinel'), k := 1)")
    assert found["structure_id"].tolist() == ["Spinel"]
    assert found["distance"][0] == pytest.approx(0, abs=1e-6)


def test_what_is_not_embedded_has_no_answer_and_the_rest_have_theirs(prototypes):
    found = prototypes.sql(
        "SELECT structure_id, embedding(structure_id) IS NULL AS is_missing FROM structure "
        "WHERE list_contains(elements, 'Po') OR structure_id = 'Spinel'"
    )
    assert found[~found["is_missing"]]["structure_id"].tolist() == ["Spinel"]
    assert len(found) == 4
    assert len(prototypes.sql("FROM similar_structures('Po')")) == 0


def test_errors_of_functions_are_those_of_python(prototypes):
    with pytest.raises(StructureNotFound, match="Spinel"):
        prototypes.sql("FROM similar_structures('Spinell')")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM '{file}'",
        "COPY (SELECT 1) TO '{file}.out'",
        "ATTACH '{file}.db'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "INSERT INTO catalog.main.sources VALUES (9, 'x', now())",
        "DELETE FROM catalog.main.structures",
        "SELECT * FROM read_blob('{file}')",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM similar_structures('{file}')",
    ],
)
def test_sql_reaches_nothing_outside_the_store(prototypes, tmp_path, query):
    secret = tmp_path / "secret.csv"
    secret.write_text("word\nopen\n")
    with pytest.raises((InvalidQuery, StructureNotFound)):
        prototypes.sql(query.format(file=secret, folder=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_files_are_read_where_allowed(prototypes, tmp_path):
    (tmp_path / "mine.csv").write_text("structure_id,note\nSpinel,blue\n")
    found = prototypes.sql(
        f"SELECT formula, note FROM structure JOIN '{tmp_path / 'mine.csv'}' USING (structure_id)",
        allow_files=True,
    )
    assert found.to_dict("records") == [{"formula": "MgAl2O4", "note": "blue"}]


def client(script: Path, query: str) -> list[str]:
    """What the real DuckDB client prints of a query as csv, without the header."""
    beside = shutil.which("duckdb", path=Path(sys.executable).parent)
    program = beside or shutil.which("duckdb")
    if program is None:
        pytest.skip("no duckdb client: pip install duckdb-cli==1.5.5")
    done = subprocess.run(
        [program, "-unsigned", "-init", str(script), "-csv", "-noheader", "-c", query],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("query", "column"),
    [
        ("similar_structures('Spinel', k := 5)", "structure_id"),
        ("similar_structures('Spinel', model := 'chgnet-0.3.0', k := 5)", "structure_id"),
        ("similar_structures('Spinel', across := 'chgnet-0.3.0', k := 5)", "structure_id"),
        ("similar_structures('Spinel', space := 'cosine', k := 5)", "structure_id"),
        ("similar_atoms('Spinel', 0, k := 5)", "site_index"),
        ("similar_atoms('Spinel', 0, across := 'chgnet-0.3.0', k := 5)", "site_index"),
    ],
)
def test_the_plain_client_calls_the_same_names(prototypes, tmp_path, query, column):
    (tmp_path / "init.sql").write_text(prototypes.init_sql())
    ask = f"SELECT replace({column}::VARCHAR, ' ', '_') FROM {query} ORDER BY rank"
    expected = prototypes.sql(ask).iloc[:, 0].tolist()
    assert client(tmp_path / "init.sql", ask) == expected


def test_the_plain_client_has_views_and_embeddings(prototypes, tmp_path):
    (tmp_path / "init.sql").write_text(prototypes.init_sql())
    for view in VIEWS:
        ask = f"SELECT count(*) AS n FROM {view}"
        assert client(tmp_path / "init.sql", ask) == [str(prototypes.sql(ask)["n"][0])]
    ask = "SELECT len(embedding('Spinel')), len(embedding('Spinel', site := 2, space := 'cosine'))"
    assert client(tmp_path / "init.sql", ask) == ["128,100"]


def test_the_plain_client_opens_a_store_without_models_and_spaces(tmp_path):
    store = Store.open(tmp_path / "new.store")
    store.ingest({"copper": bulk("Cu")})
    with duckdb.connect() as connection:
        connection.execute(store.init_sql())
        assert connection.execute("SELECT formula FROM structure").fetchall() == [("Cu",)]


def test_every_view_and_function_is_documented():
    written = (ROOT / "docs" / "sql.md").read_text()
    pattern = re.compile(r"CREATE OR REPLACE VIEW (\w+)")
    views = pattern.findall((folder("queries") / "views.sql").read_text())
    assert set(views) >= set(VIEWS)
    assert [name for name in views if f"| `{name}` |" not in written] == []
    reference = (ROOT / "docs" / "reference" / "questions.md").read_text()
    names = [function.name for function in functions()]
    assert set(names) >= {"similar_structures", "similar_atoms", "embedding", "align"}
    assert [n for n in names if not re.search(rf"^(FROM|SELECT) {n}\(", reference, re.M)] == []
