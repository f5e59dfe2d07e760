"""Python functions in DuckDB: columns in, a column out, and their errors kept."""

import inspect
import threading
from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, ref

import duckdb
import pyarrow as pa

from platonic_store.errors import NotEmbedded, PlatonicError
from platonic_store.sql.functions import Function, as_arrow, functions, parameter_type
from platonic_store.storage.snapshot import Snapshot

_lock = threading.Lock()
_registered: "WeakKeyDictionary[Snapshot, Registered]" = WeakKeyDictionary()


class Registered:
    """What a snapshot's connections know: names of functions, and the last errors they raised."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.errors: deque[PlatonicError] = deque(maxlen=64)


def register(snapshot: Snapshot, query: str) -> Registered:
    """Make the questions that a query may call known to the snapshot's connections."""
    with _lock:
        known = _registered.setdefault(snapshot, Registered())
        new = [one for one in functions(query) if one.name not in known.names]
        if not new:
            return known
        columns = [name for name, *_ in snapshot.rows("DESCRIBE structure")]
        for function in new:
            snapshot.connection.create_function(
                f"_{function.name}",
                _by_columns(snapshot, function, known.errors),
                [parameter_type(one) for one in function.parameters],
                function.returns,
                type="arrow",  # type: ignore[call-overload]
                null_handling="special",
            )
            snapshot.connection.execute(function.macro(columns))
            known.names.add(function.name)
    return known


def original(error: duckdb.Error, known: Registered) -> PlatonicError | None:
    """The error that a question raised, of which DuckDB knows the text alone."""
    return next((one for one in reversed(known.errors) if str(one) in str(error)), None)


def _by_columns(
    snapshot: Snapshot, function: Function, errors: "deque[PlatonicError]"
) -> Callable[..., pa.Array]:
    """The function as DuckDB calls it."""
    # The connection keeps its functions: one that kept the snapshot would keep both for ever.
    reference = ref(snapshot)

    def answer(*columns: pa.ChunkedArray) -> pa.Array:
        asked = reference()
        if asked is None:
            raise RuntimeError("the snapshot of this connection is gone")
        try:
            rows = zip(*(column.to_pylist() for column in columns), strict=True)
            answers = [_or_null(asked, function, row) for row in rows]
            if function.question.is_value:
                return pa.array(answers, function.arrow)
            return as_arrow(answers, function.arrow)
        except PlatonicError as error:
            errors.append(error)
            raise

    # DuckDB counts the parameters of what it is given.
    kind = inspect.Parameter.POSITIONAL_ONLY
    places = [inspect.Parameter(f"_{i}", kind) for i in range(len(function.parameters))]
    answer.__signature__ = inspect.Signature(places)  # type: ignore[attr-defined]
    return answer


def _or_null(snapshot: Snapshot, function: Function, row: tuple[Any, ...]) -> Any:
    """SQL asks for whole columns: what has no vector has no answer, and the rest have theirs."""
    try:
        return function.answer(snapshot, *row)
    except NotEmbedded:
        return None
