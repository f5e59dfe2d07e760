"""A question: one function whose signature and columns declare it in every front end.

    @question(
        Column("rank", "int64", "1 is the most alike."),
        Column("structure_id", "string", "The structure."),
        describes=True,
    )
    def alike(snapshot: Snapshot, query: StructureQuery, *, k: K = 10) -> pd.DataFrame: ...

From it follow the method of `Store`, the command, the SQL function with its columns, and the
reference page. Parameters are written `Annotated[type, "help", Ge(1)]`; positional ones are the
command's arguments, keyword-only ones its options.
"""

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    NamedTuple,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    overload,
)

import pyarrow as pa
from annotated_types import Ge

from platonic_store.errors import InvalidQuery

if TYPE_CHECKING:
    import pandas as pd

    from platonic_store.storage.snapshot import Snapshot

P = ParamSpec("P")
R = TypeVar("R")
REQUIRED = inspect.Parameter.empty


class Column(NamedTuple):
    """One column of an answer: its Arrow type by name, what it means, its unit.

    kind: which rows have it, "atom" or "structure"; "" for all.
    """

    name: str
    type: str
    meaning: str
    unit: str = ""
    kind: Literal["", "atom", "structure"] = ""

    @property
    def field(self) -> pa.Field:
        """The column as an Arrow field whose metadata are its meaning and unit."""
        metadata = {"meaning": self.meaning} | ({"unit": self.unit} if self.unit else {})
        return pa.field(self.name, arrow_type(self.type), metadata=metadata)


class SqlFunction(NamedTuple):
    """A question's name in SQL, where it is not the question's own: that, `_` and a word.

    positional: parameters that are required there; the rest of the positional ones are NULL.
    level: of what the rows are, for questions that answer with structures or atoms.
    """

    name: str
    positional: tuple[str, ...]
    level: Literal["atom", "structure"]


@dataclass(frozen=True)
class Parameter:
    """One parameter: its plain type, default (or REQUIRED), help and limits.

    is_structure: what it names is a structure (an id, a file, an object, a vector).
    are_structures: it may name several.
    """

    name: str
    type: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    at_least: float | None = None
    is_list: bool = False
    is_positional: bool = False
    is_structure: bool = False
    are_structures: bool = False

    def check(self, value: Any) -> None:
        """Raises InvalidQuery, naming what may be given."""
        if value is None:
            return
        for one in value if self.is_list else [value]:
            if self.choices and one not in self.choices:
                raise InvalidQuery(
                    f"{self.name} cannot be {one!r}: choose one of {', '.join(self.choices)}"
                )
            if self.at_least is not None and one < self.at_least:
                raise InvalidQuery(f"{self.name} must be at least {self.at_least:g}, not {one}")


class Answering(Protocol):
    """What answers questions, such as a `Store`."""

    def answer(self, question: "Question[P, R]", *args: P.args, **kwargs: P.kwargs) -> R: ...


class StructureMark:
    """Marks a parameter that names a structure; see `parameters.StructureQuery`."""


class StructuresMark(StructureMark):
    """Marks a parameter that names several; see `structure_queries.StructuresQuery`."""


class Question(Generic[P, R]):
    """A declared question; called with a snapshot, it answers.

    columns: those of the answer, in order; one for a question that answers with a single value.
    describes: the answer's structures come with the columns of the view `structure`.
    caveat: what the answer does not say, shown beside it.
    picture: `module:function` that draws an answer into a file.
    in_parts: whether the function gives Arrow tables, of which the frame is made.
    """

    def __init__(
        self,
        function: Callable[Concatenate["Snapshot", P], Any],
        columns: tuple[Column, ...],
        *,
        is_value: bool = False,
        in_parts: bool = False,
        describes: bool = False,
        sql: tuple[SqlFunction, ...] = (),
        caveat: str = "",
        picture: str = "",
    ):
        functools.update_wrapper(self, function)
        self.name = function.__name__
        self.columns, self.is_value, self.describes = columns, is_value, describes
        self.in_parts = in_parts
        self.sql, self.caveat, self.picture = sql, caveat, picture
        self._function = function

    def __call__(self, snapshot: "Snapshot", *args: P.args, **kwargs: P.kwargs) -> R:
        """The answer of one state of a store. Raises InvalidQuery for an unfit argument."""
        answer: Any = self.rows(snapshot, *args, **kwargs)
        if not self.describes:
            return cast(R, answer)
        import pandas as pd

        described = snapshot.described(answer["structure_id"].tolist())
        known = described.drop_columns("structure_id")
        taken = {*answer.columns}
        names = [f"{one}_of_source" if one in taken else one for one in known.column_names]
        frame = known.rename_columns(names).to_pandas()
        return cast(R, pd.concat([answer.set_axis(frame.index), frame], axis=1))

    def parts(self, snapshot: "Snapshot", *args: P.args, **kwargs: P.kwargs) -> Iterator[pa.Table]:
        """The answer as Arrow tables, in order: several of a question that answers in parts.

        The metadata of their schema are what the frame has in `attrs`, numbers as text.
        """
        if self.in_parts:
            self._check(args, kwargs)
            found: Any = self._function(snapshot, *args, **kwargs)
            yield from found
            return
        yield self.table(self(snapshot, *args, **kwargs))

    def table(self, answer: R) -> pa.Table:
        """An answer as an Arrow table of the declared types: of one value with one row."""
        if self.is_value:
            return pa.table({self.name: pa.array([answer], self.schema.types[0])})
        known = dict(zip(self.schema.names, self.schema.types, strict=True))
        found = pa.Schema.from_pandas(answer, preserve_index=False)
        typed = pa.schema([(one.name, known.get(one.name, one.type)) for one in found])
        return pa.Table.from_pandas(answer, typed, False).replace_schema_metadata(None)

    def _check(self, args: Any, kwargs: Any) -> None:
        given = self.signature.bind(*args, **kwargs).arguments
        for parameter in self.parameters:
            parameter.check(given.get(parameter.name))

    def rows(self, snapshot: "Snapshot", *args: P.args, **kwargs: P.kwargs) -> R:
        """The answer without the columns of `structure`."""
        if self.in_parts:
            table = pa.concat_tables(self.parts(snapshot, *args, **kwargs))
            frame: pd.DataFrame = table.to_pandas()
            known = table.schema.metadata or {}
            frame.attrs = {name.decode(): float(value) for name, value in known.items()}
            return cast(R, frame)
        self._check(args, kwargs)
        answer: Any = self._function(snapshot, *args, **kwargs)
        if self.is_value:
            return cast(R, answer)
        names = [column.name for column in self.columns]
        if undeclared := set(answer.columns) - set(names):
            raise TypeError(f"{self.name} does not declare its columns {sorted(undeclared)}")
        if (order := [name for name in names if name in answer]) != answer.columns.tolist():
            answer = answer[order]
        # Whole numbers of another size; those with gaps are floats, as ever in pandas.
        stored = dict(zip(answer.columns, answer.dtypes, strict=True))
        types = {
            column.name: arrow_type(column.type).to_pandas_dtype()
            for column in self.columns
            if column.name in stored and stored[column.name].kind == "i"
        }
        others = {name: one for name, one in types.items() if stored[name] != one}
        return cast(R, answer.astype(others) if others else answer)

    @cached_property
    def signature(self) -> inspect.Signature:
        """The function's, without the snapshot."""
        whole = inspect.signature(self._function)
        return whole.replace(parameters=list(whole.parameters.values())[1:])

    @cached_property
    def parameters(self) -> list[Parameter]:
        """Of the question, in order."""
        hints = typing.get_type_hints(self._function, include_extras=True)
        return [_parameter(p, hints[p.name]) for p in self.signature.parameters.values()]

    @cached_property
    def schema(self) -> pa.Schema:
        """The answer's own columns; each field's metadata are its meaning and unit."""
        return pa.schema([column.field for column in self.columns])

    def typed(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """Rows in the declared types, whatever some of them lack."""
        made: pd.DataFrame = pa.Table.from_pandas(frame, self.schema, False).to_pandas()
        return made

    def brief(self, columns: Sequence[str], where: str = "") -> list[str]:
        """What is shown of an answer's columns where there is little room, in order.

        where: the condition of the question; what it names is shown too.
        """
        shown = [one.name for one in self.columns if one.name in columns]
        if not self.describes:
            return shown
        place = shown.index("structure_id") + 1
        shown = [*shown[:place], "formula", *shown[place:], "spacegroup"]
        return shown + [one for one in columns if one not in shown and one in where]

    @property
    def summary(self) -> str:
        """The first paragraph of the docstring, in one line."""
        return self.description.split("\n\n")[0]

    @property
    def description(self) -> str:
        """The docstring without what only Python needs: what is returned and raised."""
        text = re.split(r"\n\n?(?:Returns|Raises):", inspect.cleandoc(self.__doc__ or ""))[0]
        return "\n\n".join(part.replace("\n", " ") for part in text.split("\n\n"))


class Method(Generic[P, R]):
    """A question as a method of `Store`, with the question's own signature and docstring.

    The question is imported when it is asked.
    """

    def __init__(self, question: Question[P, R] | str):
        self._question = question

    @overload
    def __get__(self, store: None, owner: type) -> Question[P, R]: ...
    @overload
    def __get__(self, store: "Answering", owner: type) -> Callable[P, R]: ...
    def __get__(self, store: Any, owner: type) -> Any:
        from platonic_store import questions

        question = self._question
        if isinstance(question, str):
            question = cast(Question[P, R], questions.get(question))
        return question if store is None else asked_of(store, question)


def asked_of(store: "Answering", question: Question[P, R]) -> Callable[P, R]:
    """The question as a function of its arguments, asked of a store."""

    def ask(*args: P.args, **kwargs: P.kwargs) -> R:
        return store.answer(question, *args, **kwargs)

    ask.__name__ = ask.__qualname__ = question.name
    ask.__doc__ = question.__doc__
    ask.__signature__ = question.signature  # type: ignore[attr-defined]
    return ask


def question(
    *columns: Column,
    describes: bool = False,
    sql: Sequence[SqlFunction] = (),
    caveat: str = "",
    picture: str = "",
) -> Callable[[Callable[Concatenate["Snapshot", P], R]], Question[P, R]]:
    """Declare a question that answers with rows of these columns."""

    def declare(function: Callable[Concatenate["Snapshot", P], R]) -> Question[P, R]:
        return Question(
            function,
            columns,
            describes=describes,
            sql=tuple(sql),
            caveat=caveat,
            picture=picture,
        )

    return declare


def question_in_parts(
    *columns: Column,
) -> Callable[
    [Callable[Concatenate["Snapshot", P], Iterator[pa.Table]]], "Question[P, pd.DataFrame]"
]:
    """Declare a question whose rows may be too many for a frame: the function gives tables of them.

    They have the columns declared, or some of them, in their order and of their types.
    """

    def declare(
        function: Callable[Concatenate["Snapshot", P], Iterator[pa.Table]],
    ) -> "Question[P, pd.DataFrame]":
        return Question(function, columns, in_parts=True)

    return declare


def value_question(
    column: Column,
) -> Callable[[Callable[Concatenate["Snapshot", P], R]], Question[P, R]]:
    """Declare a question that answers with one value."""

    def declare(function: Callable[Concatenate["Snapshot", P], R]) -> Question[P, R]:
        return Question(function, (column,), is_value=True)

    return declare


def arrow_type(name: str) -> pa.DataType:
    """An Arrow type by its name; `list<float>` is a list."""
    if name.startswith("list<"):
        return pa.list_(arrow_type(name[5:-1]))
    return pa.type_for_alias(name)


def _parameter(declared: inspect.Parameter, hint: Any) -> Parameter:
    """A parameter from its `Annotated` type."""
    metadata: tuple[Any, ...] = getattr(hint, "__metadata__", ())
    plain = hint.__origin__ if metadata else hint
    kind, is_list = _without_none(plain), False
    if typing.get_origin(kind) in (list, Sequence):
        is_list, kind = True, typing.get_args(kind)[0]
    choices: tuple[str, ...] = ()
    if typing.get_origin(kind) is Literal:
        choices, kind = typing.get_args(kind), str
    return Parameter(
        declared.name,
        kind if kind in (str, int, float, bool) else str,
        declared.default,
        help=next((one for one in metadata if isinstance(one, str)), ""),
        choices=choices,
        at_least=next((cast(float, one.ge) for one in metadata if isinstance(one, Ge)), None),
        is_list=is_list,
        is_positional=declared.kind is not inspect.Parameter.KEYWORD_ONLY,
        is_structure=any(isinstance(one, StructureMark) for one in metadata),
        are_structures=any(isinstance(one, StructuresMark) for one in metadata),
    )


def _without_none(hint: Any) -> Any:
    """`X` of `X | None`."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = [one for one in typing.get_args(hint) if one is not type(None)]
        return rest[0] if len(rest) == 1 else Any
    return hint
