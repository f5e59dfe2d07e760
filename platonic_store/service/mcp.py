"""Tools for agents, by the Model Context Protocol: the declared questions, `search` and `fetch`.

`search` and `fetch` have the shapes that agents expect of a source of documents; the other tools
are the questions, with the parameters that these declare. Answers are small, name their snapshot,
and link to the page of each structure.
"""

import json
from collections.abc import Callable, Collection
from typing import Annotated, Any, Final, cast

from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from starlette.routing import BaseRoute, Route

from platonic_store import __version__, questions
from platonic_store.cli.hints import command
from platonic_store.errors import Call, PlatonicError, worded
from platonic_store.questions.shared.declaration import Column, Question
from platonic_store.service import documents
from platonic_store.service.answers import answer
from platonic_store.service.formats import rows
from platonic_store.service.parameters import Text, fields_of, given
from platonic_store.service.settings import Settings
from platonic_store.service.work import Work
from platonic_store.storage.snapshot import Snapshot
from platonic_store.store import Store

PATH: Final = "/mcp"
ROWS: Final = 50  # in an answer
_ABOUT: Final = (
    "A store of crystal structures and of what machine-learning interatomic potentials see in "
    "every atom. Start with `search` for ids; ask `similar` for structures like one; `fetch` tells "
    "all that is known of one. Numbers are what models see, not measurements: mind each `caveat`."
)


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Search(_Arguments):
    query: Annotated[Text, Field(description=documents.QUERY)]


class _Fetch(_Arguments):
    id: Annotated[Text, Field(description="The id of a structure, as `search` gives it.")]


class _Sql(_Arguments):
    query: Annotated[Text, Field(description="A SELECT, or `@name` of the cookbook.")]


def server(work: Work, settings: Settings, page: str | None = None) -> Server[Any]:
    """The server of a store's tools, for any transport.

    page: where the store's pages are; by default the address to which a request came.
    """
    tools = _tools(settings)

    async def list_tools(context: Any, params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[_described(name, *tool) for name, tool in tools.items()])

    async def call_tool(context: Any, params: CallToolRequestParams) -> CallToolResult:
        if params.name not in tools:
            return _refused(f"no tool {params.name} (there are {', '.join(tools)})")
        model, _, function = tools[params.name]
        try:
            arguments = model(**(params.arguments or {}))
            where = page or str(context.request.base_url).rstrip("/")
            return _answered(await work.run(function, arguments, where))
        except ValidationError as error:
            return _refused("; ".join(map(_mistake, error.errors())))
        except PlatonicError as error:
            hint = worded(error.hint, lambda call: _call(call, tools))
            return _refused(f"{error}: {hint}" if hint else str(error))

    return Server(
        "platonic-store",
        version=__version__,
        instructions=_ABOUT,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def http(made: Server[Any]) -> tuple[BaseRoute, Callable[[], Any]]:
    """The route `/mcp` of a server, and what must be entered while it is served.

    Host and origin are checked by the service, before a request comes here.
    """
    app = made.streamable_http_app(
        streamable_http_path=PATH, json_response=True, stateless_http=True, host=""
    )
    (found,) = app.routes
    endpoint = cast(Route, found).endpoint
    # No GET, which would be a stream of messages that this server never begins.
    return Route(PATH, endpoint, methods=["POST"]), made.session_manager.run


async def stdio(store: Store, settings: Settings, page: str) -> None:
    """Answer over stdin and stdout until stdin ends."""
    work = Work(store, settings)
    made = server(work, settings, page)
    try:
        async with stdio_server() as (incoming, outgoing):
            await made.run(incoming, outgoing, made.create_initialization_options())
    finally:
        work.close()


_Function = Callable[[Snapshot, Any, str], dict[str, Any]]  # the last is where the pages are
_Declared = tuple[type[BaseModel], str, _Function]


def _tools(settings: Settings) -> dict[str, _Declared]:
    """Every tool: its arguments, what it is, and what answers."""
    tools: dict[str, _Declared] = {
        "search": (
            _Search,
            "Structures by id, formula, chemical system, a word or an SQL condition.",
            lambda snapshot, asked, page: documents.search(snapshot, asked.query, page),
        ),
        "fetch": (
            _Fetch,
            "All that is known of one structure: cell, atoms, properties, typicality, neighbours.",
            lambda snapshot, asked, page: documents.fetch(snapshot, asked.id, page),
        ),
    }
    for name in questions.names():
        question = questions.get(name)
        if not question.is_value:
            arguments = create_model(name, __base__=_Arguments, **fields_of(question))
            tools[name] = (arguments, _description(question), _asker(question))
    if settings.sql:
        tools["sql"] = (_Sql, "Read-only SQL (DuckDB) over the views of the store.", _sql)
    return tools


def _asker(question: "Question[..., Any]") -> _Function:
    def ask(snapshot: Snapshot, asked: Any, page: str) -> dict[str, Any]:
        arguments = given(asked, question)
        table = answer(snapshot, question, arguments)
        kept = question.brief(table.column_names, arguments.get("where") or "")
        found = rows(table.select(kept).slice(0, ROWS))
        for row in found:
            if "structure_id" in row:
                row["url"] = documents.url(page, row["structure_id"])
        meant = {one.name: _meaning(one) for one in question.columns if one.name in kept}
        return _cut(snapshot, question.name, found, len(table), question.caveat, meant)

    return ask


def _sql(snapshot: Snapshot, asked: Any, page: str) -> dict[str, Any]:
    from platonic_store import sql

    table = sql.run(snapshot, asked.query)
    return _cut(snapshot, "sql", rows(table.slice(0, ROWS)), len(table), "")


def _cut(
    snapshot: Snapshot,
    name: str,
    found: list[dict[str, Any]],
    total: int,
    caveat: str,
    columns: dict[str, str] | None = None,
) -> dict[str, Any]:
    more = {"left_out": f"{total - len(found)} further rows: ask for fewer"}
    return {
        "question": name,
        "snapshot": snapshot.id,
        **({"columns": columns} if columns else {}),
        "rows": found,
        **({"caveat": caveat} if caveat else {}),
        **(more if total > len(found) else {}),
    }


def _description(question: "Question[..., Any]") -> str:
    """What it is. What its columns mean comes with the rows: agents read this at every turn."""
    return f"{question.description}\n\nColumns: {', '.join(one.name for one in question.columns)}"


def _meaning(column: Column) -> str:
    return f"{column.meaning}{f' ({column.unit})' if column.unit else ''}"


def _call(call: Call, tools: Collection[str]) -> str:
    """What would help, as a tool, or as a command for whoever keeps the store."""
    if call.name == "sql":
        return "search"
    if call.name not in tools:
        return command(call)
    return f"{call.name} {json.dumps(call.options)}" if call.options else call.name


def _described(name: str, model: type[BaseModel], about: str, _: _Function) -> Tool:
    return Tool(
        name=name,
        description=about,
        input_schema=_schema(model),
        annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
    )


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """The arguments as JSON Schema, in few words: agents read it all at every turn."""
    whole = model.model_json_schema()
    for one in whole.get("properties", {}).values():
        (kind, *_) = one.pop("anyOf", [{}])
        one |= kind
        if one.get("default", 0) is None:
            del one["default"]
        for name in ("title", "pattern", "maxLength", "maximum", "maxItems"):
            one.pop(name, None)
            one.get("items", {}).pop(name, None)
    del whole["title"]
    return whole


def _answered(found: dict[str, Any]) -> CallToolResult:
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    return CallToolResult(content=[TextContent(text=text)], structured_content=found)


def _refused(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=text)], is_error=True)


def _mistake(error: Any) -> str:
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"
