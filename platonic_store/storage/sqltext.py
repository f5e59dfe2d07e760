"""SQL as text: names and literals, and how much of it a user may give."""

import json
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import duckdb

from platonic_store.errors import InvalidQuery

# In a notebook DuckDB prints a bar of its own on standard output, beside ours.
NO_BAR = "SET enable_progress_bar = false"
_NAME = re.compile(r'"?(\w+)')
_NOT_CALLED = {
    *("enable_logging", "disable_logging", "truncate_duckdb_logs"),
    *("enable_profiling", "disable_profiling", "checkpoint", "force_checkpoint"),
    *("query", "json_execute_serialized_sql"),
}


def quote(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literals(texts: Iterable[str]) -> str:
    """Texts as SQL string literals, in a list."""
    return ", ".join("'" + text.replace("'", "''") + "'" for text in texts)


def one_line(error: Exception) -> str:
    """DuckDB's message without the picture of the query below it."""
    lines = [line.strip() for line in str(error).split("\n\nLINE")[0].splitlines()]
    return " ".join(line for line in lines if line)


def require_select(query: str) -> None:
    """Refuse SQL that is not one statement which only reads.

    No other restriction of DuckDB is enough: COPY may always write over the attached catalogue.

    Raises: InvalidQuery.
    """
    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        raise InvalidQuery(f"SQL: {one_line(error)}") from None
    _refuse_calls(query)
    # DuckDB's parser itself puts a statement without text before a PIVOT: the type of its columns.
    kinds = [one.type for one in statements if one.type != duckdb.StatementType.CREATE or one.query]
    if kinds != [duckdb.StatementType.SELECT]:
        raise InvalidQuery("SQL: only one statement is run, and it must be a SELECT")


def require_condition(cursor: duckdb.DuckDBPyConnection, condition: str) -> None:
    """Refuse a condition that is more than one SQL expression. `cursor` is used to parse it.

    Raises: InvalidQuery.
    """
    alone, enclosed, plain = (
        _parsed(cursor, f"SELECT {text}") for text in (condition, f"({condition}\n)", "true")
    )
    _refuse_calls(condition)
    for parsed in (alone, enclosed):
        if parsed["error"]:
            reason = parsed["error_message"]
            raise InvalidQuery(f"the condition {condition!r} is not understood: {reason}")
    is_one = len(alone["statements"]) == 1 and len(_columns(alone)) == 1
    _columns(alone).clear()
    _columns(plain).clear()
    if not is_one or alone != plain:
        raise InvalidQuery(f"the condition {condition!r} is more than one SQL expression")


def _refuse_calls(text: str) -> None:
    """Refuse what SELECT may call though it does more than read, and what hides such a call.

    Logging into a file that a confined instance may not write ends the process.
    """
    tokens = [place for place, _ in duckdb.tokenize(text)]
    encoded = text.encode()
    words = [encoded[begin:end].decode() for begin, end in pairwise([*tokens, len(encoded)])]
    for word, following in pairwise(words):
        name = _NAME.match(word)
        if name and following.startswith("(") and name[1].lower() in _NOT_CALLED:
            raise InvalidQuery(f"SQL: {name[1]} must not be called here")


def _parsed(cursor: duckdb.DuckDBPyConnection, query: str) -> dict[str, Any]:
    (text,) = cursor.execute("SELECT json_serialize_sql(?)", [query]).fetchone() or ("",)
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def _columns(parsed: dict[str, Any]) -> list[Any]:
    columns: list[Any] = parsed["statements"][0]["node"].get("select_list", [])
    return columns
