"""Every front gives the same rows for the same question: Python, the command, SQL, HTTP, an agent's
tool, and a store behind a service."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest
import requests
from mcp import Client
from serving import awaited
from typer.testing import CliRunner

from platonic_store import questions
from platonic_store.cli import app
from platonic_store.service.formats import plain
from platonic_store.service.mcp import ROWS
from platonic_store.sql.functions import functions
from platonic_store.store import Store

QUESTIONS = [
    ("similar", {"query": "Spinel", "k": 5}),
    ("similar", {"query": "Spinel", "k": 4, "across": "chgnet-0.3.0", "where": "nelements = 3"}),
    ("similar", {"query": "Rutile", "site": 2, "model": "chgnet-0.3.0"}),
    ("similar", {"query": "Rutile", "distance": "transport", "k": 3}),
    ("similar", {"query": "Rutile", "pooling": "cumulants", "k": 3}),
    ("analogy", {"expression": "Perovskite - Spinel + Rutile", "k": 4}),
    ("near_duplicates", {"within": 0.004, "where": "nsites < 20"}),
    ("neighbours", {"k": 1, "where": "nsites > 30"}),
    ("typicality", {"query": "Rutile"}),
    ("typicality", {"query": "Rutile", "level": "atom", "model": "chgnet-0.3.0"}),
    ("typicality", {"query": "Rutile", "reference": "prototypes.store"}),
    ("coverage", {"query": "Rutile", "reference": "prototypes.store", "level": "atom"}),
    ("outliers", {"k": 5}),
    ("committee", {"k": 3}),
    ("committee", {"k": 4, "level": "atom", "model": "chgnet-0.3.0", "where": "nsites > 3"}),
    ("embedding", {"query": "Rutile", "site": 0}),
    ("transport_distance", {"a": "Rutile", "b": "Anatase"}),
    ("screen", {"candidates": "nelements = 4", "check": True}),
    ("screen_limits", {"sparse": 0.1}),
    ("compare_sets", {"a": "nelements = 2", "b": "nelements = 3", "resamples": 5}),
]


def python(here, name, arguments):
    return here.store.answer(questions.get(name), **arguments)


def remote(here, name, arguments):
    return Store.open(here.url).answer(questions.get(name), **arguments)


def command_line(here, name, arguments):
    words = [name.replace("_", "-")]
    for one in questions.get(name).parameters:
        if one.name not in arguments:
            continue
        flag = "-k" if one.name == "k" else f"--{one.name.replace('_', '-')}"
        value = [] if arguments[one.name] is True else [arguments[one.name]]
        words += value if one.is_positional else [flag, *value]
    words += ["--store", str(here.store.path), "--format", "json"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def sql(here, name, arguments):
    level = "atom" if "site" in arguments or arguments.get("level") == "atom" else "structure"
    named = [one for one in functions() if one.question.name == name]
    chosen = next((one for one in named if one.name == f"{name}_{level}s"), named[0])
    given = [f'"{key}" := {_literal(value)}' for key, value in arguments.items()]
    for number, one in enumerate(one for one in chosen.parameters if one.is_structure):
        given[number] = _literal(arguments[one.name])
    if "site" in arguments and chosen.question.sql:
        given[1] = str(arguments["site"])
    call = f"{chosen.name}({', '.join(given)})"
    if name == "analogy":
        call = call.replace('"expression" := ', "")
    value = questions.get(name).is_value
    return here.store.sql(f"SELECT {call} AS {name}" if value else f"FROM {call}")


def _literal(value):
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


def http(here, name, arguments):
    answer = requests.get(f"{here.url}/api/{name}", params=arguments).json()
    assert answer["snapshot"] == here.store.snapshot().id
    return answer["rows"]


def agent(here, name, arguments):
    async def talk():
        async with Client(f"{here.url}/mcp") as client:
            return await client.call_tool(name, arguments)

    return awaited(talk).structured_content["rows"]


def as_rows(name, answer):
    """Own columns alone, as JSON has them."""
    if not isinstance(answer, pd.DataFrame | list):
        answer = [{name: answer.tolist() if hasattr(answer, "tolist") else answer}]
    if isinstance(answer, pd.DataFrame):
        answer = answer.astype(object).to_dict("records")
    own = [column.name for column in questions.get(name).columns]
    return [{key: _plain(one[key]) for key in own if key in one} for one in answer]


def _plain(value):
    return plain(value.tolist() if hasattr(value, "tolist") else value)


@pytest.fixture(scope="module")
def here(prototypes, service):
    return SimpleNamespace(store=prototypes, url=service)


@pytest.mark.parametrize(
    ("front", "name", "arguments"),
    [
        (front, name, arguments)
        for front in (command_line, sql, http, agent, remote)
        for name, arguments in QUESTIONS
        # A vector or a number is nothing that an agent asks for.
        if front is not agent or not questions.get(name).is_value
    ],
)
def test_the_same_rows_as_in_python(here, front, name, arguments, monkeypatch):
    monkeypatch.chdir(here.store.path.parent)  # where a command finds the reference
    expected = as_rows(name, python(here, name, arguments))
    found = as_rows(name, front(here, name, arguments))
    if front is agent:
        expected = expected[:ROWS]
    if front is sql:  # it has all columns at once, of structures and of atoms
        found = [{key: one[key] for key in expected[0]} for one in found]
    assert expected
    assert found == expected


def test_the_same_frames_behind_a_service(here):
    for name, arguments in QUESTIONS:
        if not questions.get(name).is_value:
            expected, found = (one(here, name, arguments) for one in (python, remote))
            pd.testing.assert_frame_equal(found, expected)
            assert found.attrs == expected.attrs
