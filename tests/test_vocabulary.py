"""The names of 0.1 that were replaced are gone from everything that a user sees."""

import ast
import inspect
import re
from itertools import combinations
from pathlib import Path

import pytest
from typer.main import get_command

from platonic_store import errors, questions
from platonic_store.cli import app
from platonic_store.sql.functions import functions
from platonic_store.store import Store

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "docs" / "demo.sh", *sorted((ROOT / "docs").rglob("*.md"))]
QUERIES = sorted((ROOT / "queries").rglob("*.sql"))
VIEWS = re.findall(r"CREATE OR REPLACE VIEW (\w+)", (ROOT / "queries" / "views.sql").read_text())
# Views whose rows are about structures; `run` and `reference` have ids of their own.
OF_STRUCTURES = (
    *("structure", "site", "typicality", "atom_typicality"),
    *("disagreement", "anchor", "quarantine"),
)
METHODS = [name for name in dir(Store) if not name.startswith("_")]

OLD = {
    "condition": r"\bcondition ?:?=(?!=)|--condition\b",
    "layer": r"\blayer=(?!=)|\blayer ?:=|--layer\b",
    "from_": r"\bfrom_\b",
    "alignment(…)": r"\balignment\(|platonic-store alignment\b",
    "merged": r"\bmerged\(|--merged\b|@merged-",
    "--from and --to": r"--from\b(?!-)|(?<!export )(?<!- `)--to\b(?!-)",
    "project --all": r"\bproject --all\b",
    "vector(…)": r"\bvector\(",
    "a model's eye": r"\bmodels?'s? eyes?\b",
    "id as a column": r"\bSELECT (DISTINCT )?(\w\.)?id\b|\b(ORDER|GROUP) BY id\b|USING \(id\)"
    r"|\b(structure|site|typicality|disagreement|anchor|quarantine)\.id\b"
    r"|\[\"id\"\]|_index\(\"id\"\)|^\| `id` \|",
}
OLD_NAMES = {"alignment", "merged", "vector"}
OLD_PARAMETERS = {"condition", "layer", "from_", "to", "where_"}


def old_names(text: str) -> list[str]:
    """Lines with an old name, each with what is old there."""
    return [
        f"{what}: {line.strip()}"
        for line in text.splitlines()
        for what, pattern in OLD.items()
        if re.search(pattern, line)
    ]


def without_comments_and_literals(sql: str) -> str:
    return re.sub(r"--.*|'[^']*'", "", sql)


@pytest.mark.parametrize(
    "text",
    [
        "FROM similar_structures('a', condition := 'nsites > 2')",
        'store.similar("a", condition="nsites > 2")',
        'store.similar("a", layer=2)',
        "outliers(layer := 1)",
        "- `--layer`: Message-passing layer.",
        'store.stitch(from_="a", to="b")',
        "FROM alignment('a', 'b')",
        "FROM merged('a')",
        "platonic-store bias a --merged",
        "platonic-store stitch --from a --to b",
        "platonic-store project --all",
        'store.vector("a")',
        "SELECT vector('a')",
        "most alike to one, to a model's eye",
        "SELECT id, formula FROM structure",
        "SELECT s.id FROM structure AS s",
        "FROM structure ORDER BY id",
        "JOIN structure ON structure.id = typicality.structure_id",
        "JOIN typicality USING (id)",
        'found["id"]',
        "| `id` | string | The structure. |",
    ],
)
def test_old_names_are_recognized(text):
    assert old_names(text)


@pytest.mark.parametrize(
    "text",
    [
        "an SQL condition on the answers; `among` is the condition that chose it",
        "WHERE t.model = 'm' AND t.layer = 2",
        "store.ingest(models=['m'], layers='0,2') and --layers 3",
        "alignment (of two models)",
        "two branches are merged",
        "lance_vector_search('vectors.main.\"m\"', 'vector', q)",
        "annotate mine.csv --id material_id",
        "material_id, structure_id, mp_id, id, identifier",
        "| `run` | each run of a model | `id`, `model` |",
        "SELECT structure_id FROM structure ORDER BY structure_id",
        "platonic-store project",
    ],
)
def test_other_words_are_let_be(text):
    assert old_names(text) == []


@pytest.mark.parametrize("path", [*PAGES, *QUERIES], ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_and_queries(path):
    text = path.read_text()
    if path.name == "views.sql":  # it makes the views of the catalogue, whose names are its own
        text = re.sub(r"\b\w\.id\b", "", text)
    assert old_names(text) == []


def test_no_column_of_sql_is_called_id():
    public = {path: path.read_text() for path in QUERIES if path.name != "views.sql"}
    for path in PAGES:
        public[path] = "\n".join(re.findall(r"```sql\n(.*?)```", path.read_text(), re.DOTALL))
    assert len(public) > 30
    for path, text in public.items():
        assert not re.search(r"\bid\b", without_comments_and_literals(text)), path


@pytest.mark.parametrize("name", sorted({*METHODS, *questions.names()}))
def test_python(name):
    found = questions.get(name) if name in questions.names() else getattr(Store, name)
    assert name not in OLD_NAMES
    assert old_names(inspect.getdoc(found) or "") == []
    if callable(found):
        signature = getattr(found, "signature", None) or inspect.signature(found)
        assert OLD_PARAMETERS.isdisjoint(signature.parameters)


def test_sql_functions():
    for function in functions():
        assert function.name not in OLD_NAMES
        assert OLD_PARAMETERS.isdisjoint(one.name for one in function.parameters)
        assert not {"id", "condition"} & {column.name for column in function.columns}


def test_commands():
    root = get_command(app)
    names = root.list_commands(root.make_context("platonic-store", [], resilient_parsing=True))
    assert {"align", "embedding", "collapsed-pairs"} <= set(names)
    assert OLD_NAMES.isdisjoint(names)


@pytest.mark.parametrize("view", VIEWS)
def test_views(prototypes, view):
    columns = set(prototypes.sql(f"FROM {view} LIMIT 0").columns)
    assert "condition" not in columns
    assert ("id" in columns) == (view in ("run", "reference"))
    assert ("structure_id" in columns) or view not in OF_STRUCTURES


@pytest.mark.parametrize(("one", "other"), list(combinations(OF_STRUCTURES, 2)))
def test_any_two_views_of_structures_join(prototypes, one, other):
    found = prototypes.sql(
        f"SELECT count(*) AS n, count(DISTINCT structure_id) AS structures "
        f"FROM {one} JOIN {other} USING (structure_id)"
    )
    assert found["n"][0] >= found["structures"][0]
    if {one, other} <= {"structure", "site", "anchor"}:
        assert found["structures"][0] > 0


def error_texts(path: Path) -> list[tuple[int, str]]:
    """What is written in raise statements, and wherever else an error of ours is made."""
    kinds = {name for name in vars(errors) if name[0].isupper()}
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        made = getattr(node, "func", None) if isinstance(node, ast.Call) else None
        name = getattr(made, "id", getattr(made, "attr", None))
        if isinstance(node, ast.Raise) or name in kinds:
            found += [
                (part.lineno, part.value)
                for part in ast.walk(node)
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
            ]
    return found


def test_errors_of_the_library_name_no_command_or_flag():
    fronts = {"cli", "service", "explorer"}  # whose own commands, flags and routes they may name
    paths = (ROOT / "platonic_store").rglob("*.py")
    paths = [path for path in paths if not fronts.intersection(path.relative_to(ROOT).parts)]
    texts = [(path, *text) for path in paths for text in error_texts(path)]
    assert len(texts) > 200
    named = re.compile(r"platonic-store [a-z]|`platonic-store|(^|[\s`(])--?[a-z]")
    assert [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path, line, text in texts
        if named.search(text) and "made by a newer platonic-store" not in text
    ] == []
