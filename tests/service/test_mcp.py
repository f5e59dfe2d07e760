"""The tools of agents, asked by the SDK's own client over stdin and stdout, and over HTTP."""

import json
import sys

import pytest
import requests
from mcp import Client, StdioServerParameters
from serving import awaited

from platonic_store import questions

CALLS = [
    ("search", {"query": "Ti-O"}),
    ("fetch", {"id": "Rutile"}),
    ("similar", {"query": "Spinel", "k": 3, "where": "volume > 50"}),
    ("neighbours", {}),
    ("sql", {"query": "SELECT count(*) AS n FROM structure"}),
]


@pytest.fixture(scope="module", params=["stdio", "http"])
def talk(request, prototypes_path, service):
    """The tools, and the results of CALLS by their tool, of one conversation."""
    words = ["-c", "from platonic_store.cli import main; main()", "mcp", str(prototypes_path)]
    stdio = StdioServerParameters(command=sys.executable, args=[*words, "--sql"])
    target = stdio if request.param == "stdio" else f"{service}/mcp"

    async def talk():
        async with Client(target) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            return tools, {name: await client.call_tool(name, given) for name, given in CALLS}

    return awaited(talk)


def said(result) -> dict:
    """What a result says, the same as text and as structure."""
    assert not result.is_error, result.content[0].text
    assert json.loads(result.content[0].text) == result.structured_content
    return result.structured_content


def test_every_question_with_rows_is_a_tool_as_it_is_declared(talk):
    tools, _ = talk
    asked = {name for name in questions.names() if not questions.get(name).is_value}
    assert set(tools) == {"search", "fetch", "sql"} | asked
    for name in asked:
        schema = tools[name].input_schema
        for one in questions.get(name).parameters:
            said_of_it = schema["properties"][one.name]["description"]
            assert (
                "an id of the store" in said_of_it if one.is_structure else said_of_it == one.help
            )
        assert tools[name].annotations.read_only_hint
    assert tools["similar"].input_schema["required"] == ["query"]
    assert tools["similar"].input_schema["properties"]["level"]["enum"] == ["structure", "atom"]
    assert sum(len(tool.model_dump_json()) for tool in tools.values()) < 31_000


def test_search_and_fetch_have_the_shape_of_documents(talk):
    _, results_of = talk
    results = said(results_of["search"])["results"]
    assert [set(one) for one in results] == [{"id", "title", "url"}] * 3
    assert results[0]["id"] == "Rutile"
    assert results[0]["url"].endswith("/s/Rutile")
    rutile = said(results_of["fetch"])
    assert set(rutile) == {"id", "title", "text", "url", "metadata"}
    assert rutile["metadata"]["mineral"] == "Rutile"
    for part in ("space group 136", "Lattice vectors", "Most like it to chgnet-0.3.0", "0.0000"):
        assert part in rutile["text"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Rutile", ["Rutile"]),
        ("O2Ti", ["Rutile", "Anatase", "Brookite"]),
        ("spinel", ["Spinel"]),
        ("nsites > 80 AND nelements = 1", ["Hittorf", "beta Boron"]),
        ("no such thing as", None),
    ],
)
def test_search_by_id_formula_word_and_condition(prototypes, query, expected):
    from platonic_store.errors import InvalidQuery
    from platonic_store.service.documents import search

    if expected is None:
        with pytest.raises(InvalidQuery):
            search(prototypes.snapshot(), query, "")
        return
    found = search(prototypes.snapshot(), query, "")["results"]
    assert [one["id"] for one in found][: len(expected)] == expected


def test_a_question_answers_small_with_caveat_snapshot_and_links(talk, prototypes):
    _, results_of = talk
    answer = said(results_of["similar"])
    expected = prototypes.similar("Spinel", k=3, where="volume > 50")
    assert [one["structure_id"] for one in answer["rows"]] == expected["structure_id"].tolist()
    assert answer["snapshot"] == prototypes.snapshot().id
    assert set(answer["rows"][0]) == {
        *("rank", "structure_id", "formula", "distance", "spacegroup", "volume", "url")
    }
    assert len(said(results_of["neighbours"])["rows"]) == 50
    assert said(results_of["neighbours"])["left_out"] == "1370 further rows: ask for fewer"
    assert said(results_of["sql"])["rows"] == [{"n": 288}]


@pytest.mark.parametrize(
    ("tool", "arguments", "reason"),
    [
        ("similar", {"query": "Rutle"}, "closest ids are Rutile"),
        ("similar", {"query": "Rutile", "model": "gpt"}, "gpt"),
        ("similar", {"query": "Rutile", "k": 0}, "k: Input should be greater"),
        ("similar", {"query": "/etc/passwd"}, "no structure '/etc/passwd'"),
        ("similar", {"query": "Rutile", "hue": 1}, "hue: Extra inputs"),
        ("similar", {}, "query: Field required"),
        ("analogy", {"expression": "Rutile +"}, "Rutile +"),
        ("sql", {"query": "DROP TABLE structure"}, "must be a SELECT"),
        ("fetch", {"id": "nothing"}, "nothing"),
        ("dissolve", {}, "no tool dissolve"),
    ],
)
def test_a_mistake_is_one_line(service, tool, arguments, reason):
    async def talk():
        async with Client(f"{service}/mcp") as client:
            return await client.call_tool(tool, arguments)

    result = awaited(talk)
    assert result.is_error
    (content,) = result.content
    assert reason in content.text
    assert "\n" not in content.text


def test_no_sql_where_it_is_not_allowed(prototypes):
    from platonic_store.service.mcp import server
    from platonic_store.service.settings import Settings
    from platonic_store.service.work import Work

    settings = Settings()
    work = Work(prototypes, settings)

    async def names():
        async with Client(server(work, settings)) as client:
            return {tool.name for tool in (await client.list_tools()).tools}

    assert "sql" not in awaited(names)
    work.close()


def test_an_older_agent_and_no_stream_that_stays_open(service):
    async def talk():
        async with Client(f"{service}/mcp", mode="legacy") as client:
            return await client.call_tool("similar", {"query": "Rutile", "k": 1})

    assert len(said(awaited(talk))["rows"]) == 1
    assert requests.get(f"{service}/mcp", timeout=10).status_code == 405
