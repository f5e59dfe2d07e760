"""Which Python interpreter runs a model."""

import importlib.metadata
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement

from platonic_store import errors
from platonic_store.runtimes.cards import Card


def interpreter(card: Card, python: str | Path | None = None) -> Path:
    """The user's own `python`, else the current one if it has what the card requires.

    Looks at installed packages' metadata only; nothing is imported. Raises EnvironmentNotReady.
    """
    if python is not None:
        found = shutil.which(python)
        if found is None:
            raise errors.EnvironmentNotReady(f"{python} is not a Python interpreter")
        return Path(found).absolute()
    requires = requirements(card)
    lacking = [text for text in requires if not _installed(Requirement(text))]
    if lacking:
        raise errors.EnvironmentNotReady(
            f"{card.name} needs {', '.join(lacking)}: `pip install {shlex.join(requires)}`, "
            "or name another interpreter with --python"
        )
    return Path(sys.executable)


def requirements(card: Card) -> list[str]:
    """What pip must find in the interpreter of a card's family."""
    path = Path(card.folder) / "environment.yaml"
    fields: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [*fields["requires"], *fields.get("without_dependencies", [])]


def _installed(requirement: Requirement) -> bool:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)
