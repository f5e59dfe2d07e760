"""docs/commands.md: every command as its own --help describes it."""

from typing import Any

from typer.main import get_command

from platonic_store.cli import app

INTRODUCTION = """# Commands

Made by `make docs`. The commands that are questions have their columns, and what may be given for a
parameter, in the [reference](reference/questions.md)."""


def page() -> str:
    """The whole page."""
    root: Any = get_command(app)
    context = root.make_context("platonic-store", [], resilient_parsing=True)
    names = root.list_commands(context)
    parts = [described(root.get_command(context, one), f"platonic-store {one}") for one in names]
    before = "Before any command:\n\n" + listed(root)
    return "\n\n".join([INTRODUCTION, before, *parts]) + "\n"


def described(command: Any, path: str) -> str:
    """A command and what is below it, as Markdown."""
    # A question's command is complete only when it is called.
    command = command.make_context(path, [], resilient_parsing=True).command
    parts = [f"## `{path}`", (command.help or "").strip(), listed(command)]
    for name, child in getattr(command, "commands", {}).items():
        parts.append(described(child, f"{path} {name}"))
    return "\n\n".join(part for part in parts if part)


def listed(command: Any) -> str:
    """The arguments and options of a command."""
    return "\n".join(parameter(one) for one in command.params if one.name != "help")


def parameter(one: Any) -> str:
    """An argument or option, as an item of a list."""
    names = ", ".join(f"`{name}`" for name in one.opts)
    if one.param_type_name == "argument":
        names = f"`{one.name.upper()}`"
    default = "" if one.default in (None, False, ()) else f" Default: `{one.default}`."
    return f"- {names}: {one.help}{default}"
