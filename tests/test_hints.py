"""Every hint of the library is a call of the Python API, and a command that would run."""

import ast
import inspect
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from platonic_store import models
from platonic_store.cli import app, hints
from platonic_store.errors import Call, InvalidQuery, worded
from platonic_store.store import Store

ROOT = Path(__file__).parent.parent


def literal(node: ast.expr):
    """What is written in the code; a word, or a number, where it is computed."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "int":
        return 0
    if isinstance(node, ast.List):
        return [literal(one) for one in node.elts]
    return node.value if isinstance(node, ast.Constant) else "WORD"


def calls() -> list[Call]:
    found = {}
    for path in sorted((ROOT / "platonic_store").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "func", None) and ast.unparse(node.func)
            if name in ("Call", "errors.Call"):
                arguments = [literal(one) for one in node.args]
                options = {one.arg: literal(one.value) for one in node.keywords}
                call = Call(*arguments, **options)
                found[str(call)] = call
    return list(found.values())


@pytest.mark.parametrize("call", calls(), ids=str)
def test_a_hint_is_a_call_and_a_command(call):
    owner, name = Store, call.name
    if name.startswith("models."):
        owner, name = models, name.removeprefix("models.")
    target = getattr(owner, name)
    signature = getattr(target, "signature", None) or inspect.signature(target)
    own = [None] if owner is Store and "self" in signature.parameters else []
    signature.bind(*own, *call.arguments, **call.options)
    program, *words = shlex.split(hints.command(call))
    assert program == "platonic-store"
    command = get_command(app)
    while words and hasattr(command, "get_command"):  # a group of commands
        command = command.get_command(
            command.make_context("", [], resilient_parsing=True), words[0]
        )
        words = words[1:]
    command.make_context("", words)  # raises UsageError for what it does not know


def test_an_error_is_one_line_in_either_front_end():
    error = InvalidQuery("two are one", "rename a", Call("delete", ["a b"]), Call("project"))
    assert worded(error.hint) == (
        "rename a, or run `store.delete(['a b'])` and then `store.project()`"
    )
    assert hints.line(error) == (
        "two are one: rename a, or run `platonic-store delete 'a b'` and then "
        "`platonic-store project`"
    )
