"""The functions that Python answers: what `queries/functions.sql` wraps into macros.

Each calls one question, row by row, with the question's own names of arguments and columns.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from platonic_store.errors import NotEmbedded, PlatonicError
from platonic_store.questions import (
    analogies,
    asked,
    bias,
    neighbours,
    search,
    transport,
    typicality,
)
from platonic_store.resources import folder
from platonic_store.snapshot import Snapshot

_ARROW = {
    "VARCHAR": pa.string(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
}


class Function(NamedTuple):
    """A function of SQL.

    parameters: their DuckDB types, in order; columns: those of the answer's rows, by name, or for
    a function that answers with one value the DuckDB type of that.
    answer: called with the snapshot and the arguments by position.
    """

    name: str
    parameters: list[str]
    columns: dict[str, str] | str
    answer: Callable[..., Any]

    @property
    def returns(self) -> str:
        if isinstance(self.columns, str):
            return self.columns
        fields = ", ".join(f'"{name}" {type_}' for name, type_ in self.columns.items())
        return f"STRUCT({fields})[]"

    @property
    def arrow(self) -> pa.DataType:
        if isinstance(self.columns, str):
            return _ARROW.get(self.columns, pa.list_(pa.float32()))
        return pa.list_(pa.struct([(name, _ARROW[type_]) for name, type_ in self.columns.items()]))


def _asked(snapshot: Snapshot, text: str) -> str | np.ndarray:
    """An id as it is, or a vector that SQL handed over as text."""
    if text.startswith("[") and not snapshot.has_structure(text):
        return np.array(text[1:-1].split(","), dtype=np.float32)
    # SQL names what is in the store; only `similar` on the command line reads files.
    snapshot.require_structure(text)
    return text


def _similar(
    snapshot: Snapshot, query: str | None, site, model, layer, across, space, k, condition, distance
) -> pd.DataFrame | None:
    if query is None:
        return None
    return search.find(
        snapshot,
        _asked(snapshot, query),
        model=model,
        layer=layer,
        across=across,
        space=space,
        site=site,
        k=k,
        where=condition,
        distance=distance,
    )


def _embedding(snapshot: Snapshot, query: str | None, site, model, layer, space) -> list | None:
    if query is None:
        return None
    vector = _asked(snapshot, query)
    found = asked.vector(snapshot, vector, model=model, layer=layer, space=space, site=site)
    return found.tolist()


def _analogy(
    snapshot: Snapshot, expression: str | None, model, layer, across, space, k, condition
) -> pd.DataFrame | None:
    if expression is None:
        return None
    return analogies.find(
        snapshot,
        analogies.read(snapshot, expression),
        model=model,
        layer=layer,
        across=across,
        space=space,
        k=k,
        where=condition,
    )


def _neighbours(
    snapshot: Snapshot, model, layer, across, space, k, level, condition
) -> pd.DataFrame:
    return neighbours.neighbours(
        snapshot,
        model=model,
        layer=layer,
        across=across,
        space=space,
        k=k,
        level=level,
        where=condition,
    )


def _typicality(snapshot: Snapshot, query: str | None, model, layer, level) -> pd.DataFrame | None:
    if query is None:
        return None
    waiting = typicality.gather(snapshot, query, model=model, layer=layer, level=level)
    return typicality.judge(waiting, level)


def _outliers(snapshot: Snapshot, model, layer, k, level) -> pd.DataFrame:
    waiting = typicality.gather(snapshot, model=model, layer=layer, level=level)
    return typicality.outliers(typicality.judge(waiting, level), k)


def _bias(snapshot: Snapshot, model, by, k, seed) -> pd.DataFrame:
    compared = bias.gather(snapshot, model, seed=seed)
    return bias.bias(compared, by=by or bias.BY, k=k, seed=seed)


def _merged(snapshot: Snapshot, model, k, seed) -> pd.DataFrame:
    return bias.merged(bias.gather(snapshot, model, seed=seed), k=k)


def _transport(
    snapshot: Snapshot, a: str | None, b: str | None, space, atoms, seed
) -> pd.DataFrame | None:
    if a is None or b is None:
        return None
    return transport.transport(snapshot, a, b, space=space, atoms=atoms, seed=seed)


def _transport_distance(
    snapshot: Snapshot, a: str | None, b: str | None, model, layer, across, space
) -> float | None:
    if a is None or b is None:
        return None
    return transport.transport_distance(
        snapshot, a, b, model=model, layer=layer, across=across, space=space
    )


_TEXT, _WHOLE, _REAL = "VARCHAR", "INTEGER", "DOUBLE"
_JUDGED = {
    "id": _TEXT,
    "model": _TEXT,
    "layer": _WHOLE,
    "atypicality": _REAL,
    "p": _REAL,
    "distance": _REAL,
    "density": _REAL,
    "residual": _REAL,
    "site_index": _WHOLE,
    "element": _TEXT,
    "nearest_id": _TEXT,
    "nearest_site": _WHOLE,
    "nearest_distance": _REAL,
    "reference": _TEXT,
}

FUNCTIONS = (
    Function(
        "_similar",
        [_TEXT, _WHOLE, _TEXT, _WHOLE, _TEXT, _TEXT, _WHOLE, _TEXT, _TEXT],
        {"rank": "BIGINT", "distance": _REAL, "id": _TEXT, "site_index": _WHOLE},
        _similar,
    ),
    Function(
        "_analogy",
        [_TEXT, _TEXT, _WHOLE, _TEXT, _TEXT, _WHOLE, _TEXT],
        {"rank": "BIGINT", "distance": _REAL, "id": _TEXT},
        _analogy,
    ),
    Function(
        "_neighbours",
        [_TEXT, _WHOLE, _TEXT, _TEXT, _WHOLE, _TEXT, _TEXT],
        {
            "id": _TEXT,
            "site_index": _WHOLE,
            "rank": "BIGINT",
            "neighbour": _TEXT,
            "neighbour_site": _WHOLE,
            "distance": _REAL,
        },
        _neighbours,
    ),
    Function("_typicality", [_TEXT, _TEXT, _WHOLE, _TEXT], _JUDGED, _typicality),
    Function("_outliers", [_TEXT, _WHOLE, _WHOLE, _TEXT], {"rank": "BIGINT", **_JUDGED}, _outliers),
    Function(
        "_transport",
        [_TEXT, _TEXT, _TEXT, _WHOLE, _WHOLE],
        dict.fromkeys(["a", "b", "space", "element"], _TEXT)
        | {"atoms": "BIGINT", "cost": _REAL, "error": _REAL, "method": _TEXT}
        | dict.fromkeys(["cost_paired", "cost_chance", "spread", "difference"], _REAL)
        | {
            f"own_{of}{what}": _REAL
            for of in ("atom", "element", "group")
            for what in ("", "_chance", "_null")
        },
        _transport,
    ),
    Function(
        "_transport_distance",
        [_TEXT, _TEXT, _TEXT, _WHOLE, _TEXT, _TEXT],
        _REAL,
        _transport_distance,
    ),
    Function(
        "_bias",
        [_TEXT, "VARCHAR[]", _WHOLE, _WHOLE],
        dict.fromkeys(["model", "kind", "value"], _TEXT)
        | {"structures": "BIGINT"}
        | dict.fromkeys(["overlap", "overlap_others", "effect", "p", "p_any"], _REAL),
        _bias,
    ),
    Function(
        "_merged",
        [_TEXT, _WHOLE, _WHOLE],
        {"rank": "BIGINT"}
        | dict.fromkeys(["model", "id", "other", "formula", "formula_other"], _TEXT)
        | {"spacegroup": _WHOLE, "spacegroup_other": _WHOLE}
        | dict.fromkeys(["distance", "elsewhere", "effect", "p"], _REAL),
        _merged,
    ),
    Function("_embedding", [_TEXT, _WHOLE, _TEXT, _WHOLE, _TEXT], "FLOAT[]", _embedding),
)


@contextmanager
def registered(snapshot: Snapshot) -> Iterator[list[PlatonicError]]:
    """Register the functions; gives the list in which they leave what they raise."""
    raised: list[PlatonicError] = []
    for function in FUNCTIONS:
        snapshot.connection.create_function(
            function.name,
            _by_columns(snapshot, function, raised),
            function.parameters,
            function.returns,
            type="arrow",  # type: ignore[call-overload]
            null_handling="special",
        )
    snapshot.connection.execute((folder("queries") / "functions.sql").read_text())
    yield raised


def _by_columns(
    snapshot: Snapshot, function: Function, raised: list[PlatonicError]
) -> Callable[..., pa.Array]:
    """The function as DuckDB calls it: columns in, a column out."""

    def answer(*columns: pa.ChunkedArray) -> pa.Array:
        try:
            rows = zip(*(column.to_pylist() for column in columns), strict=True)
            answers = [_or_null(snapshot, function, row) for row in rows]
            if isinstance(function.columns, str):
                return pa.array(answers, function.arrow)
            return _lists(answers, function.arrow)
        except PlatonicError as error:
            raised.append(error)
            raise

    # DuckDB counts the parameters of what it is given.
    kind = inspect.Parameter.POSITIONAL_ONLY
    places = [inspect.Parameter(f"_{i}", kind) for i in range(len(function.parameters))]
    answer.__signature__ = inspect.Signature(places)  # type: ignore[attr-defined]
    return answer


def _or_null(snapshot: Snapshot, function: Function, row: tuple) -> Any:
    """SQL asks for whole columns: what has no vector has no answer, and the rest have theirs."""
    try:
        return function.answer(snapshot, *row)
    except NotEmbedded:
        return None


def _lists(frames: list[pd.DataFrame | None], type_: pa.ListType) -> pa.Array:
    """A list of rows for each frame; no Python object a row, for there may be millions."""
    fields = list(type_.value_type)
    whole = pd.concat([f for f in frames if f is not None and len(f)] or [pd.DataFrame()])
    columns = [
        pa.array(whole[field.name].to_numpy(), field.type, from_pandas=True)
        if field.name in whole
        else pa.nulls(len(whole), field.type)
        for field in fields
    ]
    ends = np.cumsum([0, *(0 if f is None else len(f) for f in frames)])
    return pa.ListArray.from_arrays(
        pa.array(ends, pa.int32()),
        pa.StructArray.from_arrays(columns, fields=fields),
        mask=pa.array([f is None for f in frames]),
    )
