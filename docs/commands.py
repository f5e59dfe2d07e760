"""Print docs/commands.md: every command as its own --help says it (`make docs`)."""

from typer.main import get_command

from platonic_store.cli import app


def describe(command, path: str) -> str:
    """A command and what is below it, as Markdown."""
    parts = [f"## `{path}`\n\n{(command.help or '').strip()}\n"]
    if hasattr(command, "commands"):
        parts += [describe(child, f"{path} {name}") for name, child in command.commands.items()]
        return "\n".join(parts)
    for parameter in command.params:
        if parameter.name == "help":
            continue
        names = ", ".join(f"`{name}`" for name in parameter.opts)
        if parameter.param_type_name == "argument":
            names = f"`{parameter.name.upper()}`"
        default = parameter.default
        shown = "" if default in (None, False, ()) else f" Default: `{default}`."
        parts.append(f"- {names}: {parameter.help}{shown}")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    root = get_command(app)
    print("# Commands\n\nMade by `make docs`; a test holds it to the code.\n")
    for name, command in root.commands.items():
        print(describe(command, f"platonic-store {name}"))
