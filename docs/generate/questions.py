"""docs/reference/questions.md: every question in every front end, from its declaration."""

import inspect
import re
from pathlib import Path
from typing import Any

import duckdb
from docstrings import markdown

from platonic_store import questions
from platonic_store.sql import functions

INTRODUCTION = """# Questions

Each question is a method of `Store`, a command and an SQL function, declared once. In SQL a
parameter that is a reserved word stands in quotes. Made by `make docs`."""
RESERVED = {
    word
    for (word,) in duckdb.sql(
        "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category = 'reserved'"
    ).fetchall()
}


def page() -> str:
    """The whole page."""
    found = [described(questions.get(name)) for name in questions.names()]
    return "\n\n".join([INTRODUCTION, *found]) + "\n"


def described(question: Any) -> str:
    """A question as Markdown."""
    if not question.__doc__:
        raise SystemExit(f"the question {question.name} has no docstring")
    calls = [one for one in functions.functions() if one.question is question]
    command = f"platonic-store {question.name.replace('_', '-')}"
    text = markdown(inspect.cleandoc(question.__doc__), [one.name for one in question.parameters])
    parts = [
        f"## `{question.name}`",
        linked(text),
        f"**What it is not:** {question.caveat}." if question.caveat else "",
        f"```python\n{python(question)}\n```",
        "```sql\n" + "\n".join(map(sql, calls)) + "\n```",
        f"[`{command}`](../commands.md#{command.replace(' ', '-')}) on the command line.",
        page_of(question),
        table(["parameter", "default", "meaning"], map(parameter, question.parameters)),
        table(["value" if question.is_value else "column", "type", "meaning"], columns(question)),
    ]
    if question.describes:
        parts.append("Then the columns of the view [`structure`](../sql.md#views).")
    return "\n\n".join(part for part in parts if part)


def linked(text: str) -> str:
    """Links that this page resolves by itself: to errors, and to pages that a docstring names."""
    text = re.sub(
        r"\]\[platonic_store\.errors\.(\w+)\]", r"](errors.md#platonic_store.errors.\1)", text
    )
    return re.sub(r"docs/([\w/]+\.md)", r"[\1](../\1)", text)


def page_of(question: Any) -> str:
    """A link to the question's own page, if it has one."""
    name = f"questions/{question.name}.md"
    is_there = (Path(__file__).parent.parent / name).exists()
    return f"[What it measures, and what it does not](../{name})." if is_there else ""


def python(question: Any) -> str:
    """The call of the method."""
    shown = []
    for one in question.parameters:
        if not one.is_positional and "*" not in shown:
            shown.append("*")
        is_required = one.default is inspect.Parameter.empty
        shown.append(one.name if is_required else f"{one.name}={one.default!r}")
    return wrapped(f"store.{question.name}", shown)


def sql(function: Any) -> str:
    """The call of an SQL function."""
    names = [f'"{one.name}"' if one.name in RESERVED else one.name for one in function.parameters]
    shown = [
        name
        if one.is_structure or one.default is inspect.Parameter.empty
        else f"{name} := {functions.literal(one)}"
        for name, one in zip(names, function.parameters, strict=True)
    ]
    return wrapped(("SELECT " if function.question.is_value else "FROM ") + function.name, shown)


def wrapped(name: str, arguments: list[str]) -> str:
    """A call on one line, or with a line for each argument."""
    line = f"{name}({', '.join(arguments)})"
    return line if len(line) <= 90 else f"{name}(\n    " + ",\n    ".join(arguments) + "\n)"


def parameter(one: Any) -> list[str]:
    """A parameter as a row."""
    meaning = one.help
    if one.choices:
        meaning += f" One of {', '.join(f'`{choice}`' for choice in one.choices)}."
    if one.at_least is not None:
        meaning += f" At least {one.at_least:g}."
    is_required = one.default is inspect.Parameter.empty
    default = "" if is_required or one.default is None else f"`{one.default}`"
    return [f"`{one.name}`", default, meaning]


def columns(question: Any) -> list[list[str]]:
    """The columns of the answer as rows."""
    return [
        [
            f"`{one.name}`",
            f"{one.type}",
            linked(one.meaning)
            + f" In {one.unit}." * bool(one.unit)
            + f" ({one.kind}s)" * bool(one.kind),
        ]
        for one in question.columns
    ]


def table(heads: list[str], rows: Any) -> str:
    """Rows as a Markdown table, nothing if there are none."""
    lines = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows]
    head = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return "\n".join(head + lines) if lines else ""
