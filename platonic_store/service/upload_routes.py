"""Sending a structure: `/api/uploads`, and a structure as the body of a question."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, NamedTuple

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from platonic_store import questions
from platonic_store.errors import InvalidQuery, OutOfTime, UnreadableSource
from platonic_store.questions.shared.declaration import Question
from platonic_store.service.formats import Format
from platonic_store.service.parameters import Text, given, model_of
from platonic_store.service.question_routes import Answers, about, ask, responses, wanted
from platonic_store.service.uploads import Batch, Upload, Uploads

# `Uploads.add` or `Uploads.add_batch`.
Add = Callable[[Uploads, bytes, str, str], Awaitable[Upload | Batch]]
BODY_SECONDS: Final = 20.0  # that a client may take to send it
_TYPES: Final = ("text/plain", "chemical/x-cif", "application/json", "application/octet-stream")
BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "One structure: CIF, POSCAR, extxyz, pymatgen or OPTIMADE JSON.",
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in _TYPES},
    }
}


def router(answers: Answers, uploads: Uploads) -> APIRouter:
    """POST and GET of uploads and batches, POST of every question that is about structures."""
    routes = APIRouter(prefix="/api")
    for sent in _SENT:
        _add_sending(routes, uploads, sent)
    for name in questions.names():
        question = questions.get(name)
        if any(one.is_structure for one in question.parameters):
            _add(routes, answers, uploads, question)
    return routes


def _add_sending(routes: APIRouter, uploads: Uploads, sent: "_Sent") -> None:
    """What is sent to `/api/PATH` is embedded; `/api/PATH/ID` says how far that is."""

    async def upload(
        request: Request, name: Annotated[Text, Query(description="The file's name.")] = ""
    ) -> JSONResponse:
        found = await receive(request, uploads, sent.add, name)
        for one in found.uploads if isinstance(found, Batch) else [found]:
            uploads.embed_all(one)
        location = f"/api/{sent.path}/{found.id}"
        return JSONResponse(found.as_json(), 201, headers={"Location": location})

    async def progress(id: str) -> JSONResponse:
        found = sent.get(uploads, id)
        return JSONResponse(found.as_json(), headers={"Cache-Control": "no-store"})

    said: dict[str, Any] = {"tags": ["uploads"], "responses": responses()}
    routes.post(
        f"/{sent.path}",
        summary=f"Send {sent.what}.",
        description=sent.description,
        operation_id=sent.operation,
        openapi_extra=BODY,
        **said,
    )(upload)
    routes.get(
        f"/{sent.path}/{{id}}",
        summary=f"{sent.progress}, and how far the models are.",
        operation_id=f"{sent.operation}_progress",
        **said,
    )(progress)


def _add(
    routes: APIRouter,
    answers: Answers,
    uploads: Uploads,
    question: "Question[..., Any]",
) -> None:
    structure = next(one for one in question.parameters if one.is_structure)
    parameters = model_of(question, answers.settings, without=structure)
    add: Add = Uploads.add_batch if structure.are_structures else Uploads.add

    async def post(
        request: Request,
        parameters: Annotated[parameters, Query()],  # type: ignore[valid-type]
        format: Annotated[Format, Depends(wanted)],
    ) -> Response:
        sent = await receive(request, uploads, add)
        arguments = {structure.name: sent.id, **given(parameters, question)}
        return await answers.respond(request, ask(question, arguments), parameters, format)

    said = about(question) | {"openapi_extra": BODY}
    said["description"] = f"`{structure.name}` is the body.\n\n{said['description']}"
    routes.post(f"/{question.name}", operation_id=f"{question.name}_of_structure", **said)(post)
    routes.post(f"/{question.name}.{{suffix}}", include_in_schema=False)(post)


async def receive(request: Request, uploads: Uploads, add: Add, name: str = "") -> Upload | Batch:
    """What is in a request's body, kept. Raises: as `received` and `add`."""
    body, kind = await received(request, uploads)
    return await add(uploads, body, kind, name or _file_name(request))


async def received(request: Request, uploads: Uploads) -> tuple[bytes, str]:
    """A request's body and its content type. Raises: InvalidQuery, OutOfTime, UnreadableSource."""
    kind = request.headers.get("content-type", "")
    if kind.startswith("multipart/"):
        raise InvalidQuery(
            "a form is not a structure", "send the file itself: `curl --data-binary @FILE`"
        )
    try:
        with uploads.arriving():
            async with asyncio.timeout(BODY_SECONDS):
                body = await request.body()
    except ClientDisconnect:
        raise UnreadableSource("the connection ended before the structure did") from None
    except TimeoutError:
        raise OutOfTime(f"the structure took longer than {BODY_SECONDS:g} s to arrive") from None
    return body, kind


def _file_name(request: Request) -> str:
    found = re.search(r'filename="?([^";]+)', request.headers.get("content-disposition", ""))
    return found.group(1).strip() if found else ""


class _Sent(NamedTuple):
    """What can be sent: where, what it is called, and how it is kept and found again."""

    path: str
    operation: str
    what: str
    description: str
    progress: str
    add: Add
    get: Callable[[Uploads, str], Upload | Batch]


_SENT: Final = (
    _Sent(
        "uploads",
        "upload",
        "a structure",
        "The models of the service embed it.",
        "A structure that was sent",
        Uploads.add,
        Uploads.get,
    ),
    _Sent(
        "batches",
        "upload_batch",
        "structures together, to be screened",
        "What cannot be read is told with its reason. `screen` takes the answer's id.",
        "Structures that were sent together",
        Uploads.add_batch,
        Uploads.get_batch,
    ),
)
