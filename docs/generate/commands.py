"""Print docs/commands.md: every command as its own --help says it (`make docs`)."""

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


if __name__ == "__main__":
    root = get_command(app)
    print("# Commands\n\nMade by `make docs`; a test holds it to the code.")
    for name, command in root.commands.items():
        print(f"\n{describe(command, f'platonic-store {name}')}")
