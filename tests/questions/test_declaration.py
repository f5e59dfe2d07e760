"""A question that is declared once is found in every front end, and in none is it otherwise."""

import inspect
import runpy
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import pytest
from annotated_types import Ge
from typer.testing import CliRunner

from platonic_store import questions
from platonic_store.cli import app
from platonic_store.errors import InvalidQuery
from platonic_store.questions.shared import methods
from platonic_store.questions.shared.declaration import Column, question
from platonic_store.questions.shared.parameters import K, Where
from platonic_store.sql.functions import functions
from platonic_store.store import Store

ROOT = Path(__file__).parents[2]


@question(
    Column("rank", "int64", "1 has the most sites."),
    Column("structure_id", "string", "The structure."),
    Column("size", "double", "Its sites.", unit="atoms"),
    describes=True,
    caveat="a large cell is no large crystal",
)
def toy_largest(
    snapshot,
    crystal_system: Annotated[Literal["cubic", "any"], "Which to look at."],
    *,
    k: K = 3,
    least: Annotated[int, "Sites, at least.", Ge(1)] = 1,
    where: Where = None,
) -> pd.DataFrame:
    """The structures with the most sites.

    Raises: InvalidQuery.
    """
    cubic = "spacegroup >= 195" if crystal_system == "cubic" else "true"
    return snapshot.frame(
        "SELECT row_number() OVER (ORDER BY nsites DESC, structure_id) AS rank, structure_id, "
        f"nsites::DOUBLE AS size FROM structure WHERE {cubic} AND ({where or 'true'}) "
        "AND nsites >= ? ORDER BY rank LIMIT ?",
        [least, k],
    )


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(questions, "_added", {})
    questions.add(toy_largest)


def run(*words: str) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_python(toy, prototypes):
    found = prototypes.toy_largest("cubic", k=2)
    assert found.columns[:3].tolist() == ["rank", "structure_id", "size"]
    assert {"formula", "spacegroup"} <= set(found.columns), "the structure's columns come with it"
    assert (found["size"] == found["nsites"]).all()
    assert list(inspect.signature(prototypes.toy_largest).parameters) == [
        "crystal_system",
        "k",
        "least",
        "where",
    ]
    assert prototypes.toy_largest.__doc__.startswith("The structures with the most sites.")


def test_sql(toy, prototypes):
    by_python = prototypes.toy_largest("cubic", k=4, where="nsites < 20")
    by_sql = prototypes.sql("FROM toy_largest('cubic', k := 4, \"where\" := 'nsites < 20')")
    assert by_sql.columns.tolist() == by_python.columns.tolist()
    assert by_sql["structure_id"].tolist() == by_python["structure_id"].tolist()
    assert by_sql["size"].dtype == np.float64


def test_command_line(toy, prototypes):
    assert "toy-largest" in run("--help")
    helped = run("toy-largest", "--help")
    assert "Sites, at least." in helped
    assert "Raises" not in helped
    words = ("toy-largest", "cubic", "-k", "2", "--store", str(prototypes.path))
    table = run(*words)
    assert table.split()[:5] == ["rank", "structure_id", "formula", "size", "spacegroup"]
    csv = run(*words, "--format", "csv").splitlines()
    assert csv[0].split(",")[:3] == ["rank", "structure_id", "size"]
    assert len(csv) == 3
    assert run(*words, "--columns", "size,rank").split()[:2] == ["size", "rank"]


def test_reference_page(toy, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "generate"))
    page = runpy.run_path(str(ROOT / "docs" / "generate" / "questions.py"))
    text = page["described"](toy_largest)
    for part in (
        "toy_largest",
        "toy-largest",
        "Sites, at least.",
        "Its sites.",
        "no large crystal",
    ):
        assert part in text


def test_it_would_be_a_method_that_editors_and_mypy_read(toy):
    assert "    toy_largest = Method(toy_largest)" in methods.source(questions.names())


def test_arguments_are_checked_alike(toy, prototypes):
    with pytest.raises(InvalidQuery, match="choose one of cubic, any"):
        prototypes.toy_largest("hexagonal")
    with pytest.raises(InvalidQuery, match="choose one of cubic, any"):
        prototypes.sql("FROM toy_largest('hexagonal')")
    with pytest.raises(InvalidQuery, match="least must be at least 1, not 0"):
        prototypes.toy_largest("any", least=0)


def test_columns_that_are_not_declared_are_refused(prototypes):
    @question(Column("rank", "int64", "A number."))
    def toy_wrong(snapshot) -> pd.DataFrame:
        return pd.DataFrame({"rank": [1], "surprise": [2]})

    with prototypes.snapshot() as snapshot, pytest.raises(TypeError, match="surprise"):
        toy_wrong(snapshot)


def test_the_methods_are_those_of_today():
    written = (ROOT / "platonic_store" / "methods.pyi").read_text()
    assert written == methods.source(questions.names()), "run `make docs`"


def test_the_schema_carries_meaning_and_unit():
    field = toy_largest.schema.field("size")
    assert (field.metadata[b"meaning"], field.metadata[b"unit"]) == (b"Its sites.", b"atoms")


@pytest.mark.parametrize("name", questions.names())
def test_every_question_is_whole(name):
    found = questions.get(name)
    assert questions.summary(name)
    assert found.summary.endswith((".", '"'))
    assert all(parameter.help for parameter in found.parameters)
    assert all(column.meaning for column in found.columns)
    assert any(function.question is found for function in functions())


def test_a_store_that_is_opened_to_read_does_not_write(prototypes):
    store = Store.open(prototypes.path, read_only=True)
    assert len(store.similar("Spinel", k=1)) == 1
    with pytest.raises(PermissionError, match="read-only"):
        store.score()
