"""What there is to ask, what the store holds, and SQL where it is allowed."""

from typing import Annotated, Any

import pyarrow as pa
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from platonic_store import questions
from platonic_store.errors import InvalidQuery, NotAllowed
from platonic_store.json_values import plain
from platonic_store.questions.shared.declaration import REQUIRED, Question
from platonic_store.service.formats import Format
from platonic_store.service.parameters import Page, Text, page_model
from platonic_store.service.question_routes import (
    SNAPSHOT_HEADER,
    Answers,
    Asked,
    responses,
    wanted,
)
from platonic_store.service.settings import Settings
from platonic_store.storage.snapshot import Snapshot


def router(answers: Answers) -> APIRouter:
    """`/api`, `/api/store` and `/api/sql`."""
    routes = APIRouter(prefix="/api")
    settings, work = answers.settings, answers.work
    index = {"questions": [described(questions.get(name)) for name in questions.names()]}

    @routes.get("", tags=["store"], summary="What can be asked.")
    async def list_questions() -> JSONResponse:
        return JSONResponse(index)

    @routes.get("/store", tags=["store"], summary="What the store holds.", responses=responses())
    async def store() -> JSONResponse:
        snapshot = await work.newest()
        about = await work.run_on(snapshot, contents)
        return JSONResponse(about, headers={SNAPSHOT_HEADER: str(snapshot.id)})

    sql_page = _sql_model(settings)

    async def sql(
        request: Request,
        parameters: Annotated[sql_page, Query()],  # type: ignore[valid-type]
        format: Annotated[Format, Depends(wanted)],
    ) -> Response:
        if not parameters.q.startswith("@") and not settings.sql:  # type: ignore[attr-defined]
            raise NotAllowed(
                "this service answers no SQL but the queries of the cookbook, such as "
                "@near-duplicates",
                "start it with `--sql`",
            )
        return await answers.respond(request, _sql(parameters), parameters, format)

    about: dict[str, Any] = {"responses": responses(), "response_class": Response, "tags": ["sql"]}
    summary = "Read-only SQL, or a query of the cookbook."
    routes.get("/sql", operation_id="sql", summary=summary, **about)(sql)
    routes.get("/sql.{suffix}", include_in_schema=False)(sql)
    return routes


def _sql_model(settings: Settings) -> type[Page]:
    text = Field(description="SQL, or `@name` of the cookbook.")
    pairs: Any = Field([], max_length=20, description="NAME=VALUE, a variable of the query.")
    fields: dict[str, Any] = {"q": (Text, text), "set": (list[Text], pairs)}
    return page_model(settings.page_rows, settings.most_rows, "sql", **fields)


def _sql(parameters: Any) -> Asked:
    pairs = [text.partition("=") for text in parameters.set]
    for name, separator, _ in pairs:
        if not separator or not name:
            raise InvalidQuery(f"set={name}: a variable is NAME=VALUE")
    variables = {name: value for name, _, value in pairs}

    def answer(snapshot: Snapshot) -> pa.Table:
        from platonic_store import sql

        return sql.run(snapshot, parameters.q, variables=variables)

    return Asked("sql", {"q": parameters.q, "set": parameters.set}, answer)


def described(question: "Question[..., Any]") -> dict[str, Any]:
    """A question's declaration."""
    parameters = [
        {
            "name": one.name,
            "type": one.type.__name__,
            "required": one.default is REQUIRED,
            "default": None if one.default is REQUIRED else one.default,
            "choices": list(one.choices),
            "at_least": one.at_least,
            "is_list": one.is_list,
            "is_structure": one.is_structure,
            "help": one.help,
        }
        for one in question.parameters
    ]
    return {
        "name": question.name,
        "path": f"/api/{question.name}",
        "summary": question.summary,
        "parameters": parameters,
        "columns": [
            {"name": one.name, "type": one.type, "meaning": one.meaning, "unit": one.unit}
            for one in question.columns
        ],
        "is_value": question.is_value,
        "describes": question.describes,
        "caveat": question.caveat,
    }


def contents(snapshot: Snapshot) -> dict[str, Any]:
    """Of a snapshot: models with their weights' hashes, counts, spaces, columns of `structure`."""
    ((structures, atoms),) = snapshot.rows("SELECT count(*), sum(nsites)::BIGINT FROM structure")
    models = snapshot.rows(
        "SELECT name, family, kind, default_layer, layers, structures, checkpoint_sha256 FROM model"
        " ORDER BY added_at"
    )
    names = ("name", "family", "kind", "default_layer", "layers", "structures", "weights_sha256")
    spaces = snapshot.rows(
        "SELECT space, recipe, list({model: model, layer: layer} ORDER BY model, layer) "
        "FROM projection GROUP BY space, recipe ORDER BY max(created_at) DESC"
    )
    columns = snapshot.rows("DESCRIBE structure")
    scored = snapshot.rows("SELECT DISTINCT model, layer FROM reference ORDER BY ALL")
    return {
        "snapshot": snapshot.id,
        "store": snapshot.manifest.store,
        "created_at": snapshot.manifest.created_at,
        "change": snapshot.manifest.change,
        "structures": structures,
        "atoms": atoms or 0,
        "models": [plain(dict(zip(names, row, strict=True))) for row in models],
        "spaces": [
            {"space": space, "recipe": recipe, "models": plain(sides)}
            for space, recipe, sides in spaces
        ],
        "scored": [{"model": model, "layer": layer} for model, layer in scored],
        "columns": [{"name": name, "type": kind} for name, kind, *_ in columns],
    }
