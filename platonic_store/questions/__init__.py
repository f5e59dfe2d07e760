"""What can be asked of a store: a module a question, each one function of the module's name.

A package adds questions by entry points of the group `platonic_store.questions`.
"""

import functools
import importlib
import importlib.util
import pkgutil
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from platonic_store.questions.shared.declaration import Question

_added: dict[str, "Question[..., Any]"] = {}


@functools.cache
def _modules() -> dict[str, str]:
    """Question → `module:function`."""
    here = {
        module.name: f"{__name__}.{module.name}:{module.name}"
        for module in pkgutil.iter_modules(__path__)
        if not module.ispkg
    }
    return here | {one.name: one.value for one in entry_points(group="platonic_store.questions")}


def names() -> list[str]:
    """Every question, by name."""
    return sorted({**_modules(), **_added})


def get(name: str) -> "Question[..., Any]":
    """The question of a name. Raises KeyError if there is none."""
    if name in _added:
        return _added[name]
    module, _, attribute = _modules()[name].partition(":")
    found: Question[..., Any] = getattr(importlib.import_module(module), attribute)
    return found


def add(question: "Question[..., Any]") -> None:
    """Add a question of one's own to every front end, for this process."""
    _added[question.name] = question


def summary(name: str) -> str:
    """A question in a sentence, read from its module without importing it."""
    if name in _added:
        return _added[name].summary
    module = _modules()[name].partition(":")[0]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    with Path(spec.origin).open(encoding="utf-8") as source:
        return source.readline().strip().strip('"')
