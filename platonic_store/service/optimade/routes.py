"""The routes below /optimade, by FastAPI; each is served under /v1, /v1.2, /v1.2.0 and none."""

import re
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from fastapi.routing import APIRoute
from optimade.exceptions import (
    BadRequest,
    Forbidden,
    NotFound,
    OptimadeHTTPException,
    VersionNotSupported,
)
from pydantic import BaseModel, Field

from platonic_store.errors import PlatonicError
from platonic_store.service.optimade import answers
from platonic_store.service.optimade.entries import Page, page, single
from platonic_store.service.optimade.properties import PREFIX, properties
from platonic_store.service.optimade.similarity import similar_entries
from platonic_store.service.problems import RETRY_SECONDS, status_of

if TYPE_CHECKING:
    from platonic_store.service.work import Work

BASE = "/optimade"
_MAJOR, _MINOR, _ = answers.API_VERSION.split(".")
VERSIONS = [f"/v{_MAJOR}", f"/v{_MAJOR}.{_MINOR}", f"/v{answers.API_VERSION}"]
_REFUSALS = {
    400: "What is not understood.",
    403: "More than a page may have.",
    404: "What is not here.",
    501: "What the filter language has and this server has not.",
}
MOST = 1_000  # entries in a page


class Single(BaseModel):
    """Parameters of every entry."""

    response_format: Annotated[str, Field(description="`json` is the only one.")] = "json"
    response_fields: Annotated[str, Field(description="Properties, with commas between.")] = ""
    include: Annotated[str, Field(description="Nothing is related.")] = "references"
    email_address: Annotated[str, Field(description="Of who asks.")] = ""
    api_hint: Annotated[str, Field(description="The version meant, such as v1.2.")] = ""

    @property
    def fields(self) -> list[str] | None:
        return self.response_fields.split(",") if self.response_fields else None


class Listing(Single):
    """Parameters of a list of entries."""

    filter: Annotated[str, Field(description='Such as `elements HAS "Ti" AND nsites<10`.')] = ""
    sort: Annotated[str, Field(description="Properties, with - before a descending one.")] = ""
    page_limit: Annotated[int, Field(ge=1, description=f"At most {MOST}.")] = 20
    page_offset: Annotated[int, Field(ge=0, description="How many to leave out.")] = 0
    page_number: Annotated[int, Field(ge=1, description="From 1 on.")] = 1
    page_above: Annotated[str | None, Field(description="The id before the page.")] = None


class Similarity(Single):
    """Parameters of a search for what is alike."""

    id: Annotated[str, Field(description="The structure that is asked about.")]
    model: Annotated[str | None, Field(description="MODEL or MODEL@LAYER.")] = None
    across: Annotated[str | None, Field(description="MODEL of the answers.")] = None
    filter: Annotated[str, Field(description="What answers must match.")] = ""
    page_limit: Annotated[int, Field(ge=1, description="How many; at most 1,000.")] = 20


class JsonApi(JSONResponse):
    """JSON as JSON:API names it."""

    media_type = "application/vnd.api+json"


def router(work: "Work", settings: Any) -> APIRouter:
    """The routes, which ask `work` for what takes time."""
    routes = APIRouter(prefix=BASE, route_class=_Route, default_response_class=JsonApi)
    for version in [*VERSIONS, ""]:
        is_shown = version == VERSIONS[0]
        _add(routes, work, version, is_shown)

    @routes.get("/versions", tags=["OPTIMADE"], response_class=PlainTextResponse)
    async def versions() -> Response:
        """The major versions that are served."""
        return Response(f"version\n{_MAJOR}\n", media_type="text/csv; header=present")

    @routes.get("/{path:path}", include_in_schema=False)
    async def elsewhere(request: Request, path: str) -> Response:
        if path.strip("/") in ("", *(one.strip("/") for one in VERSIONS)):
            return RedirectResponse(request.url.replace(path=f"{BASE}{VERSIONS[0]}/info"))
        version = path.split("/")[0]
        if re.match(r"v\d", version) and f"/{version}" not in VERSIONS:
            raise VersionNotSupported(f"{version} is not served, but {', '.join(VERSIONS)}")
        raise NotFound(f"there is nothing at {BASE}/{path}")

    return routes


def _add(routes: APIRouter, work: "Work", version: str, is_shown: bool) -> None:
    """The endpoints below one base URL."""
    shown: dict[str, Any] = {
        "tags": ["OPTIMADE"],
        "include_in_schema": is_shown,
        "responses": {status: {"description": text} for status, text in _REFUSALS.items()},
    }

    @routes.get(f"{version}/info", **shown)
    async def info(request: Request) -> Response:
        """What is served here."""
        base = request.url.path.partition(BASE)[0] + BASE + VERSIONS[0]
        url = str(request.url.replace(path=base, query=""))
        return _answer(request, answers.base_info(url), returned=1, available=1)

    @routes.get(f"{version}/info/structures", **shown)
    async def info_structures(request: Request) -> Response:
        """The properties of structures."""
        known = await work.run(properties)
        return _answer(request, answers.entry_info(known), returned=1, available=1)

    @routes.get(f"{version}/links", **shown)
    async def links(request: Request) -> Response:
        """Where other databases are found."""
        return _answer(request, answers.links(), returned=1, available=1)

    @routes.get(f"{version}/structures", **shown)
    async def structures(request: Request, given: Annotated[Listing, Query()]) -> Response:
        """The structures that a filter matches."""
        _require(request, given)
        numbered = (given.page_number - 1) * given.page_limit
        offset = given.page_offset or numbered
        if given.page_above is not None and given.sort:
            raise BadRequest("page_above goes with no sort: the pages are sorted by id")
        found = await work.run(
            page,
            filter=given.filter,
            fields=given.fields,
            sort=given.sort.split(",") if given.sort else [],
            limit=given.page_limit,
            offset=offset,
            above=given.page_above,
        )
        return _page(request, found, _next(request, given, found, offset))

    @routes.get(f"{version}/structures/{{id:path}}", **shown)
    async def structure(request: Request, id: str, given: Annotated[Single, Query()]) -> Response:
        """One structure."""
        _require(request, given)
        found = await work.run(single, id, fields=given.fields)
        return _page(request, found, None, is_single=True)

    @routes.get(f"{version}/extensions/similar", **shown)
    async def similar(request: Request, given: Annotated[Similarity, Query()]) -> Response:
        """The structures most alike to one, nearest first, with `_platonic_distance`."""
        _require(request, given)
        found = await work.run(
            similar_entries,
            given.id,
            model=given.model,
            across=given.across,
            filter=given.filter,
            fields=given.fields,
            k=given.page_limit,
        )
        return _page(request, found, None)


def _require(request: Request, given: Single) -> None:
    """Refuse parameters that are not known, or asked for too much.

    Raises: BadRequest, Forbidden.
    """
    known = type(given).model_fields
    for name in request.query_params:
        if name not in known and (not name.startswith("_") or name.startswith(PREFIX)):
            raise BadRequest(f"there is no parameter {name} (there are {', '.join(known)})")
    if given.response_format != "json":
        raise BadRequest(f"there is no format {given.response_format}, only json")
    if given.include not in ("", "references"):
        raise BadRequest(f"nothing related is included, so no {given.include}")
    if getattr(given, "page_limit", 1) > MOST:
        raise Forbidden(f"a page has at most {MOST} entries")


def _next(request: Request, given: Listing, found: Page, offset: int) -> str | None:
    """The URL of the page that follows, if there is one."""
    if not found.more:
        return None
    url = request.url.remove_query_params(["page_number", "page_offset", "page_above"])
    if given.sort or offset:
        return str(url.include_query_params(page_offset=offset + given.page_limit))
    return str(url.include_query_params(page_above=found.entries[-1]["id"]))


def _page(
    request: Request, found: Page, following: str | None, *, is_single: bool = False
) -> Response:
    data: Any = found.entries
    if is_single:
        data = data[0] if data else None
    return _answer(
        request,
        data,
        following=following,
        returned=found.returned,
        available=found.available,
        more=found.more,
        warnings=found.warnings,
        snapshot=found.snapshot,
    )


def _answer(request: Request, data: Any, *, following: str | None = None, **meta: Any) -> Response:
    content = {"data": data, "meta": answers.meta(_representation(request), **meta)}
    return JsonApi({**content, "links": {"next": following}})


def _representation(request: Request) -> str:
    """The part of the URL that follows the base URL."""
    path = request.url.path.partition(BASE)[2]
    path = re.sub(r"^/v\d[\d.]*", "", path)
    return f"{path}?{request.url.query}" if request.url.query else path


class _Route(APIRoute):
    """A route whose errors are OPTIMADE's."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except OptimadeHTTPException as error:
                return _refusal(request, error.status_code, error)
            except RequestValidationError as error:
                first = error.errors()[0]
                text = f"{first['loc'][-1]}: {first['msg']}"
                return _refusal(request, 400, BadRequest(text))
            except PlatonicError as error:
                status = status_of(error)
                return _refusal(request, 400 if status == 422 else status, error)

        return answer


def _refusal(
    request: Request, status: int, error: OptimadeHTTPException | PlatonicError
) -> Response:
    meta = answers.meta(_representation(request), returned=0, more=False)
    content = {"errors": [answers.error(error, status)], "meta": meta}
    seconds = RETRY_SECONDS.get(status)
    headers = {"Retry-After": str(seconds)} if seconds else None
    return JsonApi(content, status_code=status, headers=headers)
