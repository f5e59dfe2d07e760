"""OPTIMADE: a store's structures as materials databases serve theirs (specification 1.2).

The grammar of filters and the models of answers are optimade-python-tools'; a filter becomes SQL.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import APIRouter

    from platonic_store.service.work import Work


def router(work: "Work", settings: Any) -> "APIRouter":
    """The routes below `/optimade`."""
    from platonic_store.service.optimade.routes import router

    return router(work, settings)
