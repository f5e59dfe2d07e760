"""Structures as OPTIMADE entries: which of them, and their properties."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from optimade.exceptions import BadRequest

from platonic_store.service.optimade.filters import condition
from platonic_store.service.optimade.properties import PREFIX, Property, properties, relation
from platonic_store.storage.snapshot import Snapshot
from platonic_store.storage.sqltext import literals, quote


class Page(NamedTuple):
    """Some entries of a listing; `returned` counts all that the filter matches.

    more: whether there are others behind these.
    """

    entries: list[dict[str, Any]]
    returned: int
    available: int
    warnings: list[str]
    snapshot: int
    more: bool = False


def page(
    snapshot: Snapshot,
    *,
    filter: str = "",
    fields: Sequence[str] | None = None,
    sort: Sequence[str] = (),
    limit: int,
    offset: int = 0,
    above: str | None = None,
) -> Page:
    """A page of the structures that a filter matches, by id unless sorted otherwise.

    fields: the properties of the answer, by default all. sort: names, each with "-" before it for
    a descending order. above: the page begins behind this id.

    Raises: BadRequest, NotImplementedResponse.
    """
    known = properties(snapshot)
    wanted = chosen(known, fields)
    matching = condition(filter, known)
    source = f"FROM {relation(matching.sql)} WHERE {matching.sql}"
    ((returned,),) = snapshot.rows(f"SELECT count(*) {source}")
    order = ", ".join([*_order(known, sort), "s.structure_id"])
    behind = "" if above is None else f"AND s.structure_id > {literals([above])}"
    rows = snapshot.rows(
        f"SELECT s.structure_id FROM {relation(matching.sql + order)} "
        f"WHERE {matching.sql} {behind} ORDER BY {order} LIMIT ? OFFSET ?",
        [limit + 1, offset],
    )
    ids = [id_ for (id_,) in rows]
    return Page(
        entries(snapshot, ids[:limit], wanted),
        returned,
        available(snapshot),
        matching.warnings,
        snapshot.id,
        more=len(ids) > limit,
    )


def single(snapshot: Snapshot, id_: str, *, fields: Sequence[str] | None = None) -> Page:
    """The page of one structure, or an empty one. Raises: BadRequest."""
    found = entries(snapshot, [id_], chosen(properties(snapshot), fields))
    return Page(found, len(found), available(snapshot), [], snapshot.id)


def available(snapshot: Snapshot) -> int:
    """How many structures there are."""
    ((count,),) = snapshot.rows("SELECT count(*) FROM catalog.main.structures")
    return int(count)


def entries(
    snapshot: Snapshot, ids: Sequence[str], wanted: Iterable[Property]
) -> list[dict[str, Any]]:
    """The entries of some ids that are here, in the order of the ids."""
    columns = {one.name: one.sql for one in wanted if one.name not in ("id", "type")}
    chosen = ", ".join(f"{sql} AS {quote(name)}" for name, sql in columns.items())
    result = snapshot.execute(
        f"SELECT s.structure_id AS id{', ' if chosen else ''}{chosen} FROM {relation(chosen)} "
        # Literals: they say which part of the files to read.
        f"WHERE s.structure_id IN ({literals(ids) or 'NULL'})"
    )
    rows = {row.pop("id"): row for row in result.to_arrow_table().to_pylist()}
    return [
        {"id": id_, "type": "structures", "attributes": _attributes(rows[id_])}
        for id_ in ids
        if id_ in rows
    ]


def chosen(known: Mapping[str, Property], fields: Sequence[str] | None) -> list[Property]:
    """The properties that an answer has: those named, or all that are served.

    Another provider's property is NULL. Raises: BadRequest.
    """
    if fields is None:
        return [one for one in known.values() if one.is_served]
    foreign = [one for one in fields if one.startswith("_") and not one.startswith(PREFIX)]
    for name in fields:
        if name not in known and name not in foreign:
            raise BadRequest(f"there is no property {name}")
    return [known.get(name) or Property(name, "string", "NULL", "") for name in fields]


def _order(known: Mapping[str, Property], sort: Sequence[str]) -> list[str]:
    terms = []
    for term in sort:
        one = known.get(term.removeprefix("-"))
        if one is None or not one.is_sortable:
            raise BadRequest(f"structures are not sorted by {term.removeprefix('-')}")
        terms.append(f"{one.sql} {'DESC' if term.startswith('-') else 'ASC'} NULLS LAST")
    return terms


def _attributes(row: dict[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in row.items()}


def plain(value: Any) -> Any:
    """A value as OPTIMADE's JSON has it: times in UTC with a Z, no number that is not one."""
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
