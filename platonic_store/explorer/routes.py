"""The page, what it is made of, and the JSON and CSV twins of its views."""

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pandas as pd
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

from platonic_store.errors import InvalidQuery, StructureNotFound
from platonic_store.explorer import binary, data, overview, search, sent
from platonic_store.questions.shared.inputs import UPLOAD
from platonic_store.storage.layout import Level
from platonic_store.storage.snapshot import Snapshot

if TYPE_CHECKING:
    from platonic_store.service.settings import Settings
    from platonic_store.service.work import Work

STATIC = Path(__file__).parent / "static"
# No request leaves this host, nothing is compiled from text. data: and blob: are what the crystal's
# library draws on.
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self' http://localhost:* http://127.0.0.1:*"  # a notebook shows it
)


def router(work: "Work", settings: "Settings") -> APIRouter:
    """The explorer's routes. work: what runs functions of a snapshot; settings: of the service."""
    routes = APIRouter(include_in_schema=False)
    files = StaticFiles(directory=STATIC)

    async def answered(
        request: Request, function: Callable[..., Any], *given: Any, **named: Any
    ) -> Response:
        """What a function of the newest snapshot says, as JSON or bytes; 304 where it is known."""
        tag = f'W/"{work.snapshot().id}-{_hash(str(request.url))}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        found = await work.run(function, *given, **named)
        if isinstance(found, bytes):  # gzipped
            if "gzip" in request.headers.get("accept-encoding", ""):
                headers["Content-Encoding"] = "gzip"
            else:
                found = gzip.decompress(found)
            return Response(found, media_type="application/octet-stream", headers=headers)
        return Response(json_bytes(found), media_type="application/json", headers=headers)

    @routes.get("/")
    @routes.get("/s/{id_:path}")
    async def page(request: Request, id_: str = "", format: str = "") -> Response:
        """The page; or its data, where the path ends in .json or .csv."""
        for kind in (".json", ".csv"):
            if request.url.path.endswith(kind) and not _has(work, id_):
                return await twin(request, id_.removesuffix(kind), kind)
        return FileResponse(
            STATIC / "index.html",
            headers={"Content-Security-Policy": CSP, "Cache-Control": "no-cache"},
        )

    @routes.get("/index{kind}")
    async def index(request: Request, kind: str) -> Response:
        if kind == ".html":
            return RedirectResponse("/")
        return await twin(request, "", kind)

    async def twin(request: Request, id_: str, kind: str) -> Response:
        """What the view with these parameters shows, as JSON or CSV."""
        asked = request.query_params
        filters = asked.getlist("filter")
        if not id_:
            found = await work.run(search.search, filters, limit=None if kind == ".csv" else 200)
            return _csv(found["rows"], "structures") if kind == ".csv" else _json(found)
        row = request.app.state.uploads.get(id_).row if id_.startswith(UPLOAD) else None
        around = await work.run(_around, id_, row, dict(asked), filters)
        if kind == ".csv":
            lists = (around["neighbours"][one] for one in "ab")
            rows = [{"model": one["side"], **row} for one in lists for row in one["rows"]]
            return _csv(rows, f"neighbours of {id_}")
        return _json(around)

    @routes.get("/static/{path:path}")
    async def static(request: Request, path: str) -> Response:
        response = await files.get_response(path, request.scope)
        response.headers["Cache-Control"] = "no-cache"
        return response

    @routes.get("/explore/overview")
    async def overview_(request: Request) -> Response:
        return await answered(request, _overview, _uploads(settings))

    @routes.get("/explore/structures")
    async def structures(request: Request) -> Response:
        return await answered(request, binary.structures)

    @routes.get("/explore/atoms")
    async def atoms(request: Request) -> Response:
        return await answered(request, binary.atoms)

    @routes.get("/explore/map")
    async def map_(request: Request, level: Level, side: str) -> Response:
        return await answered(request, binary.places, level, side)

    @routes.get("/explore/column")
    async def column(request: Request, level: Level, name: str) -> Response:
        return await answered(request, binary.column, level, name)

    @routes.get("/explore/crystal")
    async def crystal(request: Request, id: str) -> Response:
        if id.startswith(UPLOAD):  # whose models may be at work
            return _json(await work.run(sent.crystal, request.app.state.uploads.get(id).row))
        return await answered(request, data.crystal, id)

    @routes.get("/explore/neighbours")
    async def neighbours(
        request: Request,
        id: str,
        a: str,
        b: str,
        site: int | None = None,
        across: bool = False,
        where: str | None = None,
        k: int = Query(10, ge=1, le=100),
    ) -> Response:
        return await answered(
            request, data.neighbours, id, site=site, a=a, b=b, across=across, where=where, k=k
        )

    @routes.get("/explore/analogy")
    async def analogy(
        request: Request, expression: str, a: str, b: str, k: int = Query(10, ge=1, le=100)
    ) -> Response:
        return await answered(request, data.by_analogy, expression, a=a, b=b, k=k)

    @routes.get("/explore/suggest")
    async def suggest(request: Request, text: str) -> Response:
        return await answered(request, search.suggest, text)

    @routes.get("/explore/search")
    async def search_(request: Request, filter: list[str] = Query([])) -> Response:  # noqa: B008
        return await answered(request, search.search, filter)

    @routes.get("/explore/queries")
    async def queries(request: Request) -> Response:
        return await answered(request, overview.queries)

    @routes.get("/explore/queries/{name}.csv")
    async def query_csv(request: Request, name: str) -> Response:
        found = await work.run(search.query, name, dict(request.query_params), limit=None)
        return _csv(found["rows"], name)

    @routes.get("/explore/queries/{name}")
    async def query(request: Request, name: str) -> Response:
        return await answered(request, search.query, name, dict(request.query_params))

    return routes


def _overview(snapshot: Snapshot, uploads: str | None) -> dict[str, Any]:
    return {**overview.overview(snapshot), "uploads": uploads}


def _uploads(settings: "Settings") -> str | None:
    """Why no file can be dropped on the page; None if one can."""
    if settings.models is None or settings.models:
        return None
    return "this service embeds no new structures: it was started with --no-models"


def _has(work: "Work", id_: str) -> bool:
    return bool(id_) and work.snapshot().has_structure(id_)


def _around(
    snapshot: Snapshot,
    id_: str,
    row: dict[str, Any] | None,
    asked: dict[str, str],
    filters: list[str],
) -> dict[str, Any]:
    """The crystal of a view (`row`, if it was sent) and its neighbours by both models."""
    sides = [one["side"] for one in overview.overview(snapshot)["models"]]
    if not sides:
        raise StructureNotFound("the store holds no embeddings yet")
    site = asked.get("site")
    if site is not None and not site.isdigit():
        raise InvalidQuery(f"site {site!r} is no number", "sites are counted from 0")
    where = " AND ".join(f"({search.condition(one)})" for one in filters) or None
    found = data.neighbours(
        snapshot,
        id_,
        site=None if site is None else int(site),
        a=asked.get("a", sides[0]),
        b=asked.get("b", sides[1] if len(sides) > 1 else sides[0]),
        across="across" in asked,
        where=where if asked.get("near") == "filtered" else None,
    )
    about = {"snapshot": snapshot.id, "view": f"/s/{id_}?{urlencode(asked)}"}
    crystal = sent.crystal(snapshot, row) if row else data.crystal(snapshot, id_)
    return {**about, "crystal": crystal, "neighbours": found}


def json_bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _json(value: Any) -> Response:
    return Response(json_bytes(value), media_type="application/json")


def _csv(rows: list[dict[str, Any]], name: str) -> Response:
    return Response(
        pd.DataFrame(rows).to_csv(index=False),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}.csv"},
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
