"""How a function of Python becomes one of SQL: columns in, a column out, errors kept."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from platonic_store.errors import NotEmbedded, PlatonicError
from platonic_store.resources import folder
from platonic_store.storage.snapshot import Snapshot

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


@contextmanager
def registered(snapshot: Snapshot, functions: Iterable[Function]) -> Iterator[list[PlatonicError]]:
    """Register functions and their macros; gives the list in which they leave what they raise."""
    raised: list[PlatonicError] = []
    for function in functions:
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
