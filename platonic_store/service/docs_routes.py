"""`/docs`: the API's documentation, a page of our own that loads nothing from elsewhere."""

from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.responses import FileResponse

_FOLDER: Final = Path(__file__).with_name("static")
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def router() -> APIRouter:
    """The page, its style and its script."""
    routes = APIRouter(include_in_schema=False)
    headers = {"Content-Security-Policy": PAGE_POLICY, "Cache-Control": "no-cache"}

    @routes.get("/docs")
    async def page() -> FileResponse:
        return FileResponse(_FOLDER / "docs.html", headers=headers)

    @routes.get("/docs/docs.css")
    async def style() -> FileResponse:
        return FileResponse(_FOLDER / "docs.css", headers=headers)

    @routes.get("/docs/docs.js")
    async def script() -> FileResponse:
        return FileResponse(_FOLDER / "docs.js", headers=headers)

    return routes
