"""Docstrings as Markdown: a list of what they say of parameters, a link for each error."""

import re
from collections.abc import Collection
from typing import Any

import griffe

from platonic_store import errors

ERRORS = [kind.__name__ for kind in errors.PlatonicError.__subclasses__()]
ERROR = re.compile(rf"(?<![`\w.])({'|'.join(ERRORS)})(?![`\w])")


class Docstrings(griffe.Extension):
    """Rewrites every docstring as it is loaded."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring:
            is_function = isinstance(obj, griffe.Function)
            names = [one.name for one in obj.parameters] if is_function else list(obj.members)
            obj.docstring.value = markdown(obj.docstring.value, names)


def markdown(docstring: str, names: Collection[str]) -> str:
    """The docstring as Markdown. names: of the parameters or attributes it may describe."""
    return "\n\n".join(_paragraph(part, names) for part in docstring.split("\n\n"))


def _paragraph(text: str, names: Collection[str]) -> str:
    """One paragraph: a list if its lines begin with names, or with its errors linked."""
    if text.startswith("Raises: "):
        linked = ERROR.sub(r"[`\1`][platonic_store.errors.\1]", text.removeprefix("Raises: "))
        return f"**Raises:** {linked}"
    lines = [_item(line, names) for line in text.splitlines()]
    if not lines[0].startswith("- "):
        return text
    return "\n".join(line if line.startswith("- ") else f"  {line.strip()}" for line in lines)


def _item(line: str, names: Collection[str]) -> str:
    """A line that begins with names and a colon as an item; any other as it is."""
    head, colon, rest = line.partition(": ")
    is_item = colon and all(name in names for name in head.split(", "))
    return f"- {', '.join(f'`{name}`' for name in head.split(', '))}: {rest}" if is_item else line
