"""Hints of errors as commands: `store.delete(["a"])` is `platonic-store delete a`."""

import shlex

from platonic_store.errors import Call, PlatonicError, worded

_COMMANDS = {"select_anchors": "anchors select", "models.table": "models"}
_OPTIONS = {"models": "model"}


def line(error: PlatonicError) -> str:
    """What was wrong, and the commands that mend it, in one line."""
    return f"{error}: {worded(error.hint, command)}" if error.hint else str(error)


def command(call: Call) -> str:
    """A call of the Python API as a command line."""
    words = ["platonic-store", _COMMANDS.get(call.name, call.name.replace("_", "-"))]
    words[1] = words[1].replace(".", " ")
    words += [word for value in call.arguments for word in _words(value)]
    for name, value in call.options.items():
        option = f"--{_OPTIONS.get(name, name).replace('_', '-')}"
        if value is True:
            words.append(option)
            continue
        words += [part for word in _words(value) for part in (option, word)]
    return " ".join(words)


def _words(value: object) -> list[str]:
    """A value, or each of a list, quoted for the shell."""
    values = value if isinstance(value, list | tuple) else [value]
    return [shlex.quote(str(one)) for one in values]
