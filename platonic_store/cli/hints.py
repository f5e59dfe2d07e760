"""Hints of errors as commands: `store.score(["m"])` is `platonic-store score m`."""

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
    words += [shlex.quote(str(value)) for value in call.arguments]
    for name, value in call.options.items():
        option = f"--{_OPTIONS.get(name, name).replace('_', '-')}"
        if value is True:
            words.append(option)
            continue
        values = value if isinstance(value, list | tuple) else [value]
        words += [word for one in values for word in (option, shlex.quote(str(one)))]
    return " ".join(words)
