"""A route for each declared question; nobody writes one."""

import asyncio
import base64
import binascii
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, NamedTuple, TypeVar
from urllib.parse import urlencode

import pyarrow as pa
from fastapi import APIRouter, Depends, Query, Request, Response

from platonic_store import questions
from platonic_store.errors import InvalidQuery
from platonic_store.questions.shared.declaration import Question
from platonic_store.service import formats
from platonic_store.service.answers import answer
from platonic_store.service.cache import Cache
from platonic_store.service.formats import Format, Head
from platonic_store.service.parameters import Page, given, model_of
from platonic_store.service.settings import Settings
from platonic_store.service.work import Work
from platonic_store.storage.snapshot import Snapshot

R = TypeVar("R")

SNAPSHOT_HEADER: Final = "Platonic-Snapshot"
GONE: Final = 499  # for the log: nobody receives it


class Answers:
    """Asks questions, and keeps what was answered: a snapshot never changes, nor do its answers."""

    def __init__(self, work: Work, settings: Settings):
        self.work, self.settings = work, settings
        half = settings.cache_bytes // 2
        self.tables: Cache[pa.Table] = Cache(half, lambda table: int(table.nbytes) + 1_000)
        self.bodies: Cache[Body] = Cache(half, lambda body: len(body.content) + 1_000)

    async def respond(
        self, request: Request, asked: "Asked", page: Page, format: Format
    ) -> Response:
        """One page of an answer in a format. Raises: what `Work.run` and the question raise."""
        number, start = read_cursor(page.cursor)
        work = self.work
        snapshot = await (work.newest() if number is None else work.at(number))
        content = content_key(snapshot, asked.name, asked.arguments)
        key = content_key(snapshot, content, format.suffix, page.limit, start, request.url.path)
        etag = f'"{key}"'
        headers = {SNAPSHOT_HEADER: str(snapshot.id), "ETag": etag, "Cache-Control": "no-cache"}
        if etag in (request.headers.get("if-none-match") or ""):
            return Response(status_code=304, headers=headers)

        def write(snapshot: Snapshot) -> Body:
            table = self.tables.get(content)
            if table is None:
                table = asked.answer(snapshot)
                require_size(table, self.settings.answer_bytes, "an answer", "ask for less")
                self.tables.put(content, table)
            shown = table.slice(start, page.limit)
            require_size(shown, self.settings.page_bytes, "a page", "set a smaller `limit`")
            after, here, following = start + page.limit, request.url.path, None
            if after < len(table):
                following = next_page(here, asked.arguments, page.limit, snapshot.id, after)
            head = Head(asked.name, snapshot.id, asked.caveat, following)
            return Body(format.write(shown, head), following)

        body = self.bodies.get(key)
        if body is None:
            computed = self.bodies.get_or(key, lambda: work.run_on(snapshot, write))
            body = await unless_gone(request, computed)
        if body is None:
            return Response(status_code=GONE)
        if body.next is not None:
            headers["Link"] = f'<{body.next}>; rel="next"'
        return Response(body.content, headers=headers, media_type=format.media_type)


async def unless_gone(request: Request, answer: Awaitable[R]) -> R | None:
    """An answer, None when its client has gone before it came: it is then given up."""
    answering = asyncio.ensure_future(answer)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
        return answering.result() if answering.done() else None
    finally:
        gone.cancel()
        answering.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def require_size(table: pa.Table, most: int, what: str, hint: str) -> None:
    """Raises: InvalidQuery for a table that is larger than so many bytes."""
    if table.nbytes > most:
        raise InvalidQuery(f"{what} has at most {most:,} bytes, this one {table.nbytes:,}", hint)


class Body(NamedTuple):
    """A page as it is sent, and the address of the next one."""

    content: bytes
    next: str | None


class Asked(NamedTuple):
    """What an answer follows from: the arguments are those of its address."""

    name: str
    arguments: dict[str, Any]
    answer: Callable[[Snapshot], pa.Table]
    caveat: str = ""


def ask(question: "Question[..., Any]", arguments: dict[str, Any]) -> Asked:
    """A declared question with its arguments."""
    return Asked(
        question.name,
        arguments,
        lambda snapshot: answer(snapshot, question, arguments),
        question.caveat,
    )


def router(answers: Answers) -> APIRouter:
    """`/api/QUESTION` and `/api/QUESTION.SUFFIX` for all that are declared."""
    routes = APIRouter(prefix="/api")
    for name in questions.names():
        _add(routes, answers, questions.get(name))
    return routes


def _add(routes: APIRouter, answers: Answers, question: "Question[..., Any]") -> None:
    parameters = model_of(question, answers.settings)

    async def get(
        request: Request,
        parameters: Annotated[parameters, Query()],  # type: ignore[valid-type]
        format: Annotated[Format, Depends(wanted)],
    ) -> Response:
        asked = ask(question, given(parameters, question))
        return await answers.respond(request, asked, parameters, format)

    name = question.name
    routes.get(f"/{name}", operation_id=name, **about(question))(get)
    routes.get(f"/{name}.{{suffix}}", include_in_schema=False)(get)


def about(question: "Question[..., Any]") -> dict[str, Any]:
    """What OpenAPI is to know of a question."""
    return {
        "summary": question.summary,
        "description": _description(question),
        "responses": responses(),
        "response_class": Response,
        "tags": ["questions"],
    }


async def wanted(request: Request) -> Format:
    """The format by the address's suffix, else by `Accept`. Raises: InvalidQuery."""
    suffix = request.path_params.get("suffix")
    if suffix is None:
        return formats.accepted(request.headers.get("accept"))
    try:
        return formats.named(suffix)
    except KeyError:
        known = ", ".join(format.suffix for format in formats.FORMATS)
        raise InvalidQuery(f"no format {suffix[:20]!r}", f"one of {known}") from None


def _description(question: "Question[..., Any]") -> str:
    columns = [
        f"- `{one.name}` ({one.type}{', ' + one.unit if one.unit else ''}): {one.meaning}"
        for one in question.columns
    ]
    more = ["The columns of the view `structure` follow."] if question.describes else []
    caveat = [f"Mind: {question.caveat}."] if question.caveat else []
    return "\n\n".join([question.description, "\n".join(columns), *more, *caveat])


def responses() -> dict[int | str, dict[str, Any]]:
    """What OpenAPI is to know of them."""
    content: dict[str, Any] = {one.media_type: {} for one in formats.FORMATS}
    content["application/json"] = {"schema": {"type": "object"}}
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        200: {"description": "The answer.", "content": content},
        304: {"description": "The answer that `If-None-Match` names."},
        "4XX": {"description": "What was wrong with the request.", "content": problem},
        "5XX": {"description": "Why there is no answer now.", "content": problem},
    }


def content_key(snapshot: Snapshot, *parts: Any) -> str:
    """What an answer follows from: the same key, the same content."""
    from platonic_store import __version__

    manifest = snapshot.manifest
    state: list[Any] = [__version__, manifest.store, manifest.id, manifest.catalog.sha256]
    state += [[name, one.manifest.store, one.id] for name, one in snapshot.references.items()]
    text = json.dumps([*state, *parts], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def next_page(path: str, arguments: dict[str, Any], limit: int, snapshot: int, start: int) -> str:
    """The address of the page that begins with row `start`."""
    cursor = base64.urlsafe_b64encode(f"{snapshot}.{start}".encode()).decode().rstrip("=")
    return f"{path}?{urlencode({**arguments, 'limit': limit, 'cursor': cursor}, doseq=True)}"


def read_cursor(cursor: str | None) -> tuple[int | None, int]:
    """The snapshot of a page and its first row. Raises: InvalidQuery."""
    if cursor is None:
        return None, 0
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        snapshot, start = (int(part) for part in text.split("."))
    except (ValueError, binascii.Error):
        snapshot = start = -1
    if not (0 <= snapshot < 2**31 and 0 <= start < 2**31):
        raise InvalidQuery("the cursor is not one of this service", "take it from `next`")
    return snapshot, start
