"""Which Python interpreter runs a model: the user's, the current one, or one made for its family.

An environment lies in the user's cache, named by its family and the hash of its specification:
another specification is another environment.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from platonic_store import errors
from platonic_store.runtimes import user_dirs
from platonic_store.runtimes.cards import Card

PYARROW = "pyarrow>=20"  # what a worker speaks
_THIS = f"{sys.version_info.major}.{sys.version_info.minor}"
_PYTHONS = ("3.13", "3.12", "3.11", "3.10")


@dataclass(frozen=True)
class Environment:
    """What the interpreter of a family needs: the fields of `ingest/schemas/environment.json`."""

    family: str
    family_folder: Path
    requires: tuple[str, ...]
    size_gb: float
    constraints: tuple[str, ...] = ()
    without_dependencies: tuple[str, ...] = ()
    python: str = ">=3.10"

    @classmethod
    def of(cls, card: Card) -> "Environment":
        """The environment of a card's family."""
        folder = Path(card.folder)
        fields: dict[str, Any] = yaml.safe_load((folder / "environment.yaml").read_text("utf-8"))
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return cls(family=card.family, family_folder=folder, **(fields | lists))

    @property
    def base(self) -> str | None:
        """A Python that it can be made from: this one if its version fits, else one on the PATH."""
        minor = self._minor
        return sys.executable if minor == _THIS else minor and shutil.which(f"python{minor}")

    @property
    def _minor(self) -> str | None:
        """The version of Python that it has, or would have."""
        versions = SpecifierSet(self.python)
        fitting = (m for m in _PYTHONS if shutil.which(f"python{m}"))
        return next((m for m in (_THIS, *fitting) if versions.contains(f"{m}.99")), None)

    @property
    def folder(self) -> Path:
        """Where it lies, or would."""
        specification = [
            sorted(self.requires),
            sorted(self.constraints),
            sorted(self.without_dependencies),
            f"Python {self._minor} on {sys.platform} {platform.machine()}",
        ]
        digest = hashlib.sha256(json.dumps(specification).encode()).hexdigest()
        return user_dirs.cache() / "environments" / f"{self.family}-{digest[:12]}"

    @property
    def interpreter(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def marker(self) -> Path:
        """Written last: an environment that has it is whole."""
        return self.folder / "ready.json"

    def is_made(self) -> bool:
        return self.marker.exists() and self.interpreter.exists()

    def is_here(self) -> bool:
        """Whether the current interpreter has all that is required. Imports nothing."""
        return all(
            _installed(Requirement(text)) for text in (*self.requires, *self.without_dependencies)
        )


def interpreter(card: Card, python: str | Path | None = None) -> Path:
    """The user's own `python`, else the current one if it fits, else that of the family's
    environment, which is made if it is not there.

    Raises EnvironmentNotReady.
    """
    if python is not None:
        found = shutil.which(python)
        if found is None:
            raise errors.EnvironmentNotReady(f"{python} is not a Python interpreter")
        return Path(found).absolute()
    environment = Environment.of(card)
    if environment.is_here():
        return Path(sys.executable)
    if not environment.is_made():
        from platonic_store.runtimes.installation import make

        make(environment)
    return environment.interpreter


def state(card: Card) -> str:
    """For a person: "this Python", "ready", or what it takes to make the environment."""
    environment = Environment.of(card)
    if environment.is_here():
        return "this Python"
    return "ready" if environment.is_made() else f"{environment.size_gb:g} GB, made on first use"


def clean(families: list[str]) -> list[tuple[str, float]]:
    """Remove environments (of all families, if none is named): their names and sizes in GB.

    One that is being made stays. Raises EnvironmentNotReady if a named family has none.
    """
    from platonic_store.runtimes.installation import making

    places_of = sorted((user_dirs.cache() / "environments").glob("*/"))
    known = {folder.name.rsplit("-", 1)[0] for folder in places_of}
    if strangers := sorted(set(families) - known):
        raise errors.EnvironmentNotReady(
            f"no environment of {', '.join(strangers)} (here: {', '.join(sorted(known)) or 'none'})"
        )
    removed = []
    for folder in places_of:
        if families and folder.name.rsplit("-", 1)[0] not in families:
            continue
        with making(folder, wait=False) as mine:
            if mine:
                removed.append((folder.name, size_gb(folder)))
                shutil.rmtree(folder)
    return removed


def size_gb(folder: Path) -> float:
    """What the files in a folder take, in GB; files may come and go meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(parent) / name).lstat().st_size
    return total / 1e9


def _installed(requirement: Requirement) -> bool:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)
