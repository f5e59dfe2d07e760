"""Errors as problem+json (RFC 9457): what was wrong, and what mends it; never a traceback."""

import logging
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import duckdb
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from platonic_store import errors, questions
from platonic_store.cli.hints import command
from platonic_store.errors import Call, PlatonicError, worded
from platonic_store.service.formats import NotAcceptable

MEDIA_TYPE: Final = "application/problem+json"
RETRY_SECONDS: Final = {429: 1, 503: 2}

# The first that an error is.
_STATUS: Final[tuple[tuple[type[PlatonicError], int], ...]] = (
    (errors.StructureNotFound, 404),
    (errors.NotEmbedded, 404),
    (errors.SnapshotNotFound, 404),
    (errors.TooLarge, 413),
    (NotAcceptable, 406),
    (errors.InvalidQuery, 422),
    (errors.ModelNotFound, 422),
    (errors.LayerNotFound, 422),
    (errors.AnchorsNotFound, 422),
    (errors.UnreadableSource, 422),
    (errors.NotAllowed, 403),
    (errors.TooManyRequests, 429),
    (errors.OutOfTime, 504),
    (errors.StoreDamaged, 500),
    (errors.StoreTooNew, 500),
    (errors.PlatonicError, 503),  # a store or model that is not there now
)

logger = logging.getLogger(__name__)


SCHEMA: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "hint"],
    "properties": {
        "type": {"type": "string", "description": "Names the error for programs."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was wrong."},
        "hint": {"type": "string", "description": "What mends it."},
    },
}


def problem(
    status: int,
    detail: str,
    *,
    title: str | None = None,
    hint: str = "",
    kind: str = "about:blank",
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> JSONResponse:
    """A response. kind: the `type`, which names the error for programs."""
    content = {
        "type": kind,
        "title": title or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "hint": hint,
        **more,
    }
    retry = {"Retry-After": str(RETRY_SECONDS[status])} if status in RETRY_SECONDS else {}
    return JSONResponse(
        content, status, headers={**retry, **(headers or {})}, media_type=MEDIA_TYPE
    )


def status_of(error: PlatonicError) -> int:
    """The HTTP status of an error."""
    return next(code for kind, code in _STATUS if isinstance(error, kind))


def of(error: PlatonicError) -> JSONResponse:
    """The response to an error that a user can mend."""
    status = status_of(error)
    name = type(error).__name__
    title = (type(error).__doc__ or name).partition("\n")[0].rstrip(".")
    if status >= 500 and not isinstance(error, errors.ServiceBusy | errors.OutOfTime):
        logger.warning("%s: %s", name, error)
    return problem(
        status,
        str(error),
        title=title,
        hint=worded(error.hint, _request),
        kind=f"urn:platonic-store:error:{name}",
    )


def _request(call: Call) -> str:
    """A call as a request, or as a command for whoever keeps the store."""
    if call.name not in questions.names():
        return command(call)
    words = [f"{name}={value}" for name, value in call.options.items()]
    return f"GET /api/{call.name}?{'&'.join(words)}".rstrip("?")


def unexpected(error: Exception) -> JSONResponse:
    """The response to an error that nobody foresaw: an id, under which the log has it all."""
    id = uuid.uuid4().hex[:12]
    logger.error("error %s", id, exc_info=error)
    return problem(
        500,
        "something went wrong that should not",
        hint=f"report it with the id {id}, which is in the service's log",
        id=id,
    )


def install(app: FastAPI) -> None:
    """Make every error of an app a problem, and have its OpenAPI description say so."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        schema = described()
        schema.setdefault("components", {}).setdefault("schemas", {})["Problem"] = SCHEMA
        return schema

    app.openapi = openapi  # type: ignore[method-assign]

    @app.exception_handler(PlatonicError)
    async def platonic(request: Request, error: PlatonicError) -> JSONResponse:
        return of(error)

    @app.exception_handler(duckdb.OutOfMemoryException)
    async def memory(request: Request, error: duckdb.OutOfMemoryException) -> JSONResponse:
        return problem(503, "the answer needs more memory than is free", hint="ask for less")

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        hints = {404: "GET /api lists what there is", 405: "GET /api lists what there is"}
        detail = f"{request.method} {request.url.path[:200]}: {error.detail}"
        return problem(
            error.status_code,
            detail,
            hint=hints.get(error.status_code, ""),
            headers=error.headers,
        )

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        found = [
            {"parameter": ".".join(map(str, one["loc"][1:])), "message": one["msg"]}
            for one in error.errors()
        ]
        detail = "; ".join(f"{one['parameter']}: {one['message']}" for one in found)
        return problem(422, detail, hint="GET /api names the parameters", errors=found)
