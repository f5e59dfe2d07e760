"""Questions as SQL functions: names, parameters, columns and macros, from the declarations."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from platonic_store import questions
from platonic_store.questions.shared.declaration import (
    REQUIRED,
    Column,
    Parameter,
    Question,
    arrow_type,
)
from platonic_store.questions.shared.inputs import ids_only
from platonic_store.storage.snapshot import Snapshot
from platonic_store.storage.sqltext import quote

if TYPE_CHECKING:
    import pandas as pd

_TYPES = {str: "VARCHAR", int: "INTEGER", float: "DOUBLE", bool: "BOOLEAN"}
_ARROW_TYPES = {
    "string": "VARCHAR",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "double": "DOUBLE",
    "float": "FLOAT",
    "bool": "BOOLEAN",
}


class Function(NamedTuple):
    """A question under one of its names in SQL: its parameters and columns there."""

    name: str
    question: "Question[..., Any]"
    parameters: list[Parameter]
    columns: list[Column]

    @property
    def arrow(self) -> pa.DataType:
        """What Python answers with: one value, or a list of rows."""
        if self.question.is_value:
            return arrow_type(self.columns[0].type)
        return pa.list_(pa.struct([column.field for column in self.columns]))

    @property
    def returns(self) -> str:
        """The same as a DuckDB type."""
        if self.question.is_value:
            return duckdb_type(self.columns[0].type)
        fields = ", ".join(f"{quote(one.name)} {duckdb_type(one.type)}" for one in self.columns)
        return f"STRUCT({fields})[]"

    def answer(self, snapshot: Snapshot, *values: Any) -> Any:
        """The question's answer to one row of arguments; None where a required one is NULL."""
        given = {
            one.name: value
            for one, value in zip(self.parameters, values, strict=True)
            if value is not None
        }
        for one in self.parameters:
            if one.name not in given and _is_required(one):
                return None
            if one.is_structure:
                given[one.name] = _structure(snapshot, given[one.name])
        with ids_only():
            answer = self.question.rows(snapshot, **given)
        return answer.tolist() if isinstance(answer, np.ndarray) else answer

    def macro(self, structure_columns: Iterable[str]) -> str:
        """SQL that makes the function callable by name, with its defaults."""
        signature = ", ".join(
            quote(one.name) if _is_required(one) else f"{quote(one.name)} := {literal(one)}"
            for one in self.parameters
        )
        values = ", ".join(
            f"{quote(one.name)}::VARCHAR" if one.is_structure else quote(one.name)
            for one in self.parameters
        )
        head = f"CREATE OR REPLACE MACRO {self.name}({signature}) AS"
        call = f"_{self.name}({values})"
        if self.question.is_value:
            return f"{head} {call};"
        rows = f"(SELECT unnest({call}) AS hit)"
        names = [column.name for column in self.columns]
        own = ", ".join(f"hit.{quote(name)}" for name in names)
        if not self.question.describes:
            return f"{head} TABLE SELECT {own} FROM {rows};"
        twice = sorted(set(names) & set(structure_columns) - {"structure_id"})
        renames = ", ".join(f"{quote(name)} AS {quote(name + '_of_source')}" for name in twice)
        rest = "structure.* EXCLUDE (structure_id)" + (f" RENAME ({renames})" if twice else "")
        order = " ORDER BY hit.rank" if "rank" in names else ""
        return (
            f"{head} TABLE SELECT {own}, {rest} FROM {rows} "
            f"JOIN structure ON structure.structure_id = hit.structure_id{order};"
        )


def functions(text: str | None = None) -> list[Function]:
    """All SQL functions, or those whose names occur in a text."""
    if text is None:
        return [one for name in questions.names() for one in _of_question(questions.get(name))]
    words = set(re.findall(r"\w+", text.lower()))
    # Only what is called is imported: a question of SQL named other than itself begins with it.
    called = sorted({_question_of(word) for word in words} & set(questions.names()))
    return [
        one for name in called for one in _of_question(questions.get(name)) if one.name in words
    ]


def _question_of(name: str) -> str:
    """The question that a word may be in SQL: `similar_atoms` is one of `similar`."""
    return name if name in questions.names() else name.partition("_")[0]


def _of_question(question: "Question[..., Any]") -> list[Function]:
    if not question.sql:
        return [Function(question.name, question, question.parameters, list(question.columns))]
    found = []
    for declared in question.sql:
        parameters = [
            replace(one, default=REQUIRED) if one.name in declared.positional else one
            for one in question.parameters
            if one.name in declared.positional or one.name not in ("site", "level")
        ]
        parameters.sort(key=lambda one: not _is_required(one))
        columns = [one for one in question.columns if one.kind in ("", declared.level)]
        found.append(Function(declared.name, question, parameters, columns))
    return found


def _is_required(parameter: Parameter) -> bool:
    # NULL is no structure: what has none has no answer.
    return parameter.default is REQUIRED or parameter.is_structure


def _structure(snapshot: Snapshot, text: str) -> str | np.ndarray:
    """An id as it is, or a vector that SQL hands over as text."""
    if text.startswith("[") and not snapshot.has_structure(text):
        return np.array(text[1:-1].split(","), dtype=np.float32)
    return text


def literal(parameter: Parameter) -> str:
    """A parameter's default as SQL."""
    value = parameter.default
    if value is None or parameter.is_list:
        return "NULL"
    return f"'{value}'" if isinstance(value, str) else str(value)


def parameter_type(parameter: Parameter) -> str:
    """A parameter's DuckDB type."""
    return _TYPES[parameter.type] + ("[]" if parameter.is_list else "")


def duckdb_type(arrow: str) -> str:
    """The DuckDB type of a column's Arrow type."""
    if arrow.startswith("list<"):
        return f"{duckdb_type(arrow[5:-1])}[]"
    return _ARROW_TYPES[arrow]


def as_arrow(frames: "list[pd.DataFrame | None]", type_: pa.DataType) -> pa.Array:
    """A list of rows for each frame; no Python object a row, for there may be millions."""
    import pandas as pd

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
