"""Which Python interpreter runs a model: the user's, the current one, or its family's own."""

import shutil
import sys
from pathlib import Path

from platonic_store import errors
from platonic_store.runtimes.cards import Card
from platonic_store.runtimes.environments import Environment
from platonic_store.runtimes.installation import install


def interpreter(card: Card, python: str | Path | None = None) -> Path:
    """The user's own `python`, else the current one if it has what the model needs, else that of
    the family's environment, which is created if it does not exist.

    Raises EnvironmentNotReady.
    """
    if python is not None:
        found = shutil.which(python)
        if found is None:
            raise errors.EnvironmentNotReady(f"{python} is not a Python interpreter")
        return Path(found).absolute()
    environment = Environment.of(card)
    if environment.is_satisfied_here():
        return Path(sys.executable)
    if not environment.is_installed():
        install(environment)
    return environment.interpreter
