"""Writes `platonic_store/methods.pyi`: `python -m platonic_store.questions.shared.methods`."""

from collections.abc import Iterable
from pathlib import Path

import platonic_store
from platonic_store import questions

_HEAD = '''"""Every question as a method of `Store`. Made by `make docs` from the declarations."""

'''


def source(names: Iterable[str]) -> str:
    """A stub of the mixin class `Questions`, for editors and type checkers to read."""
    names = sorted(names)
    imports = [f"from {questions.get(name).__module__} import {name}" for name in names]
    imports.append("from platonic_store.questions.shared.declaration import Method")
    methods = [f"    {name} = Method({name})" for name in names]
    return "\n".join(
        [
            _HEAD + "\n".join(sorted(imports, key=lambda line: line.split()[1])),
            "\nclass Questions:",
            '    """The questions; each is asked of the newest published state."""\n',
            *methods,
            "",
        ]
    )


if __name__ == "__main__":
    Path(platonic_store.__file__).with_name("methods.pyi").write_text(source(questions.names()))
