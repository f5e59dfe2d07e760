"""The cookbook: named queries, each a file of plain SQL with a comment that introduces it.

The comment is the title, what the query says and does not say, and then, a line each, what it
needs (properties of the structures, or `scores`) and its variables with their defaults. In the
query a variable is `getvariable('name')`, and text.
"""

import re
from pathlib import Path
from typing import NamedTuple

from platonic_store.errors import Call, InvalidQuery
from platonic_store.questions.shared.properties import numeric_properties, property_types
from platonic_store.resources import folder
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import Snapshot
from platonic_store.storage.sqltext import literals, quote

_LINE = re.compile(r"(\w+)(?: = ([^:]+))?: (.+)")
_MODELS = ("model", "other")  # what the store itself can choose


class Variable(NamedTuple):
    """default is None for a model: the store's first, and for `other` the next."""

    default: str | None
    meaning: str


class Entry(NamedTuple):
    """One query of the cookbook."""

    name: str
    title: str
    text: str
    needs: list[str]
    variables: dict[str, Variable]
    sql: str


def entries() -> list[Entry]:
    """All, by name."""
    return [_read(path.stem, path.read_text()) for path in sorted(_folder().glob("*.sql"))]


def entry(name: str) -> Entry:
    """Raises: InvalidQuery, naming what is there."""
    known = {one.name: one for one in entries()}
    if name not in known:
        raise InvalidQuery(f"no query @{name} in the cookbook, choose one of {', '.join(known)}")
    return known[name]


def _folder() -> Path:
    return folder("queries") / "cookbook"


def _read(name: str, text: str) -> Entry:
    head = "\n".join(line[2:].strip() for line in text.splitlines() if line.startswith("--"))
    title, *blocks = head.split("\n\n")
    lines = [_LINE.fullmatch(line) for line in blocks[-1].splitlines()]
    found = [line.groups() for line in lines if line]
    prose = blocks[:-1] if len(found) == len(lines) else blocks
    return Entry(
        name,
        title,
        text=" ".join(prose).replace("\n", " "),
        needs=[need for key, _, rest in found if key == "needs" for need in rest.split(", ")],
        variables={
            key: Variable(default, meaning) for key, default, meaning in found if key != "needs"
        },
        sql=text,
    )


def prepared(snapshot: Snapshot, one: Entry, given: dict[str, str]) -> dict[str, str]:
    """Values of all variables of a query that the store can answer.

    Raises: InvalidQuery for an unknown variable, or if a property, scores or a second model is
    missing; ModelNotFound.
    """
    if unknown := sorted(given.keys() - one.variables.keys()):
        known = ", ".join(one.variables) or "none"
        raise InvalidQuery(f"@{one.name} has no variable {unknown[0]} (it has: {known})")
    values = {name: variable.default for name, variable in one.variables.items()} | given
    for name in _MODELS:
        if name in values:
            values[name] = _model(snapshot, one, values[name], values.get("model"), name)
    complete = {name: value for name, value in values.items() if value is not None}
    properties = [need for need in one.needs if need != "scores"]
    properties += [value for name, value in complete.items() if name == "property"]
    _require_properties(snapshot, one, properties)
    if "scores" in one.needs:
        _require_scores(snapshot, one, [complete[name] for name in _MODELS if name in complete])
    return complete


def _model(snapshot: Snapshot, one: Entry, given: str | None, first: str | None, name: str) -> str:
    if given is not None or name == "model":
        return lookup.model(snapshot, given)
    others = [model for model in list(snapshot.models) if model != first]
    if not others:
        raise InvalidQuery(
            f"@{one.name} compares two models, the store has only {first}",
            Call("ingest", models=["NAME"]),
        )
    return next((model for model in others if model in snapshot.trained_models), others[0])


def _require_properties(snapshot: Snapshot, one: Entry, names: list[str]) -> None:
    types, numeric = property_types(snapshot), numeric_properties(snapshot)
    for name in names:
        if name not in numeric:
            what = f"is {types[name]}" if name in types else "is not in this store"
            raise InvalidQuery(
                f"@{one.name} needs the numeric property {name}, which {what}; numeric are "
                f"{', '.join(numeric)}",
                "ingest a source that has it",
                "set the variable `property` where the query has it",
            )


def _require_scores(snapshot: Snapshot, one: Entry, models: list[str]) -> None:
    scored = [name for (name,) in snapshot.rows("SELECT DISTINCT model FROM typicality")]
    missing = [name for name in models if name not in scored]
    if missing or not scored:
        raise InvalidQuery(
            f"@{one.name} needs stored scores of typicality"
            + (f" by {', '.join(missing)}" if missing else ""),
            Call("score"),
        )


def assignments(values: dict[str, str]) -> str:
    """SQL that sets variables."""
    return "".join(
        f"SET VARIABLE {quote(name)} = {literals([value])};\n" for name, value in values.items()
    )
