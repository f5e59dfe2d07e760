"""The parts of OPTIMADE's answers beside entries: meta, info, links, errors."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from optimade import __api_version__
from optimade.exceptions import OptimadeHTTPException
from optimade.models import (
    BaseInfoAttributes,
    BaseInfoResource,
    EntryInfoProperty,
    EntryInfoResource,
    LinksResource,
    OptimadeError,
    Warnings,
)
from optimade.models.optimade_json import Implementation, Provider, ResponseMeta, ResponseMetaQuery
from pydantic import BaseModel

from platonic_store import __version__
from platonic_store.errors import PlatonicError
from platonic_store.service.optimade.properties import PREFIX, Property

API_VERSION = __api_version__
SCHEMA = f"https://schemas.optimade.org/openapi/v{API_VERSION.rpartition('.')[0]}/optimade.json"
PROVIDER = Provider(
    name="platonic-store",
    description="A store of crystals and of what interatomic potentials see in every atom",
    prefix=PREFIX.strip("_"),
)


def meta(
    query: str,
    *,
    returned: int | None = None,
    available: int | None = None,
    more: bool = False,
    warnings: Sequence[str] = (),
    snapshot: int | None = None,
) -> dict[str, Any]:
    """query: the part of the URL behind the base URL."""
    made = ResponseMeta(
        query=ResponseMetaQuery(representation=query),
        api_version=API_VERSION,
        more_data_available=more,
        schema=SCHEMA,
        time_stamp=datetime.now(UTC),
        data_returned=returned,
        data_available=available,
        provider=PROVIDER,
        implementation=Implementation(name="platonic-store", version=__version__),
        warnings=[Warnings(title="UnknownProviderProperty", detail=detail) for detail in warnings]
        or None,
    )
    whole = _dumped(made)
    if snapshot is not None:
        whole[f"{PREFIX}snapshot"] = snapshot
    return whole


def base_info(base_url: str | None) -> dict[str, Any]:
    """base_url: the versioned one, which ends with /v1; None for a file."""
    versions = [{"url": base_url, "version": API_VERSION}] if base_url else []
    attributes = BaseInfoAttributes(
        api_version=API_VERSION,
        available_api_versions=versions,
        formats=["json"],
        available_endpoints=["info", "links", "structures", "extensions"],
        entry_types_by_format={"json": ["structures"]},
        is_index=False,
    )
    return _dumped(BaseInfoResource(attributes=attributes))


def entry_info(known: Mapping[str, Property]) -> dict[str, Any]:
    """What /info/structures says of the properties that are served."""
    served = {one.name: one for one in known.values() if one.is_served}
    described = {
        name: EntryInfoProperty(
            description=one.description, unit=one.unit, sortable=one.is_sortable, type=one.type
        )
        for name, one in served.items()
    }
    whole = EntryInfoResource(
        id="structures",
        type="info",
        formats=["json"],
        description="Crystal structures, and what is known of them here.",
        properties=described,
        output_fields_by_format={"json": list(served)},
    )
    return _dumped(whole)


def links() -> list[dict[str, Any]]:
    """The list of all providers, as the specification asks for."""
    providers = LinksResource(
        id="optimade",
        type="links",
        attributes={
            "name": "OPTIMADE",
            "description": "The list of OPTIMADE providers",
            "base_url": "https://providers.optimade.org",
            "homepage": "https://www.optimade.org",
            "link_type": "providers",
        },
    )
    return [_dumped(providers)]


def error(problem: OptimadeHTTPException | PlatonicError, status: int) -> dict[str, Any]:
    """An error object."""
    title = getattr(problem, "title", type(problem).__name__)
    return _dumped(OptimadeError(status=str(status), title=title, detail=str(problem)))


def _dumped(model: BaseModel) -> dict[str, Any]:
    whole: dict[str, Any] = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return whole
