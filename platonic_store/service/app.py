"""The service as an ASGI application, put together."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from platonic_store import __version__
from platonic_store.explorer import routes as explorer_routes
from platonic_store.service import (
    docs_routes,
    mcp,
    optimade,
    problems,
    question_routes,
    store_routes,
    upload_routes,
    watching,
)
from platonic_store.service.embedding import Models
from platonic_store.service.guard import Guard
from platonic_store.service.question_routes import SNAPSHOT_HEADER, Answers
from platonic_store.service.settings import Settings
from platonic_store.service.uploads import Uploads
from platonic_store.service.work import Work
from platonic_store.store import Store


def create_app(store: Store, settings: Settings | None = None) -> FastAPI:
    """The service of a store: `app.state.work` does its work, `app.state.settings` say how.

    Raises: StoreNotFound, StoreDamaged, StoreTooNew, StoreUnreachable.
    """
    settings = settings or Settings()
    store.snapshot()
    work = Work(store, settings)
    uploads = Uploads(work, Models(work.snapshot, settings.models), settings)
    work.uploads = uploads
    answers, measures = Answers(work, settings), watching.Measures()
    tools, run_tools = mcp.http(mcp.server(work, settings))
    app = FastAPI(
        title="platonic-store",
        version=__version__,
        description="What foundation interatomic potentials know of every crystal of a store.",
        lifespan=lambda app: _life(work, uploads, run_tools),
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.work, app.state.settings, app.state.uploads = work, settings, uploads
    problems.install(app)
    app.include_router(watching.router(measures))
    app.include_router(docs_routes.router())
    app.include_router(store_routes.router(answers))
    app.include_router(question_routes.router(answers))
    app.include_router(upload_routes.router(answers, uploads))
    app.include_router(optimade.router(work, settings))
    app.router.routes.append(tools)
    app.include_router(explorer_routes.router(work, settings))
    _measure(measures, work, answers, uploads)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "If-None-Match"],
            expose_headers=["ETag", "Link", "Retry-After", SNAPSHOT_HEADER],
        )
    app.add_middleware(Guard, settings=settings, measures=measures)
    return app


@asynccontextmanager
async def _life(
    work: Work, uploads: Uploads, run_tools: Callable[[], AbstractAsyncContextManager[None]]
) -> AsyncIterator[None]:
    async with run_tools():
        yield
    work.close()
    uploads.close()


def _measure(measures: watching.Measures, work: Work, answers: Answers, uploads: Uploads) -> None:
    measures.gauges |= {
        "snapshot": ("The number of the snapshot.", lambda: work.snapshot().id),
        "answers_asked": ("Answers at work or waiting.", lambda: work.asked),
        "threads_busy": ("Threads that answer.", lambda: work.busy_threads),
        "kept_bytes": (
            "Size of the answers that are kept.",
            lambda: answers.bodies.nbytes + answers.tables.nbytes,
        ),
        "uploads": ("Structures that were sent and are kept.", lambda: len(uploads)),
        "kept_hits": ("Answers that were kept.", lambda: answers.bodies.hits),
    }
