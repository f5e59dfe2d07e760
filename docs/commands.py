"""Print docs/commands.md: every command as its own --help says it (`make docs`)."""

from typer.main import get_command

from platonic_store.cli import app


def describe(command, path: str) -> str:
    """A command and what is below it, as Markdown."""
    parts = [f"## `{path}`\n\n{(command.help or '').strip()}\n"]
    parts += [parameter(one) for one in command.params if one.name != "help"]
    children = getattr(command, "commands", {})
    return (
        "\n".join(parts)
        + "\n"
        + "".join(f"\n{describe(child, f'{path} {name}')}" for name, child in children.items())
    )


def parameter(one) -> str:
    """An argument or option, as an item of a list."""
    names = ", ".join(f"`{name}`" for name in one.opts)
    if one.param_type_name == "argument":
        names = f"`{one.name.upper()}`"
    shown = "" if one.default in (None, False, ()) else f" Default: `{one.default}`."
    return f"- {names}: {one.help}{shown}"


if __name__ == "__main__":
    root = get_command(app)
    print("# Commands\n\nMade by `make docs`; a test holds it to the code.\n")
    for name, command in root.commands.items():
        print(describe(command, f"platonic-store {name}"))
