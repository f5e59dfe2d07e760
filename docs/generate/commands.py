"""docs/commands.md: every command as its own --help says it."""

from typer.main import get_command

from platonic_store.cli import app


def describe(command, path: str) -> str:
    """A command and what is below it, as Markdown."""
    items = [parameter(one) for one in command.params if one.name != "help"]
    parts = [f"## `{path}`", (command.help or "").strip(), "\n".join(items)]
    for name, child in getattr(command, "commands", {}).items():
        parts.append(describe(child, f"{path} {name}"))
    return "\n\n".join(part for part in parts if part)


def parameter(one) -> str:
    """An argument or option, as an item of a list."""
    names = ", ".join(f"`{name}`" for name in one.opts)
    if one.param_type_name == "argument":
        names = f"`{one.name.upper()}`"
    shown = "" if one.default in (None, False, ()) else f" Default: `{one.default}`."
    return f"- {names}: {one.help}{shown}"


def page() -> str:
    """The whole page."""
    commands = get_command(app).commands  # type: ignore[attr-defined]
    parts = [describe(command, f"platonic-store {name}") for name, command in commands.items()]
    return "\n\n".join(["# Commands", "Made by `make docs`.", *parts]) + "\n"
