"""The Python environment of a family of models: what it needs, and where it is on this machine.

An environment is a folder in the user's cache, named by its family and the hash of its
specification: another specification is another environment.
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

from platonic_store.runtimes import user_dirs
from platonic_store.runtimes.cards import Card

_THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PYARROW = "pyarrow>=20"  # for the worker's streams
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
    def base_python(self) -> str | None:
        """The Python to create it from: this one if its version fits, else one on the PATH."""
        version = self._python_version
        is_this = version == _THIS_PYTHON
        return sys.executable if is_this else version and shutil.which(f"python{version}")

    @property
    def _python_version(self) -> str | None:
        """The version of Python that it has, or would have."""
        allowed = SpecifierSet(self.python)
        on_path = (version for version in _PYTHONS if shutil.which(f"python{version}"))
        return next((v for v in (_THIS_PYTHON, *on_path) if allowed.contains(f"{v}.99")), None)

    @property
    def platform(self) -> str:
        """What its wheels are of."""
        return f"Python {self._python_version} on {sys.platform} {platform.machine()}"

    @property
    def lock_file(self) -> Path:
        """The exact versions and files of its packages, where they are locked; see `locks`."""
        return self.family_folder / "lock.txt"

    @property
    def folder(self) -> Path:
        """Where it is, or would be."""
        specification = [
            sorted(self.requires),
            sorted(self.constraints),
            sorted(self.without_dependencies),
            self.platform,
        ]
        if self.lock_file.exists():
            specification.append(self.lock_file.read_text())
        digest = hashlib.sha256(json.dumps(specification).encode()).hexdigest()
        return environments_folder() / f"{self.family}-{digest[:12]}"

    @property
    def interpreter(self) -> Path:
        """Its Python."""
        return self.folder / "bin" / "python"

    @property
    def marker(self) -> Path:
        """Written last: an environment that has it is complete."""
        return self.folder / "ready.json"

    def is_installed(self) -> bool:
        """Whether the environment is complete."""
        return self.marker.exists() and self.interpreter.exists()

    def is_satisfied_here(self) -> bool:
        """Whether the current interpreter has all that is required. Imports nothing."""
        return all(
            _has_package(Requirement(text)) for text in (*self.requires, *self.without_dependencies)
        )


def state(card: Card) -> str:
    """A card's environment in words: "this Python", "ready", or its size if it must be created."""
    environment = Environment.of(card)
    if environment.is_satisfied_here():
        return "this Python"
    if environment.is_installed():
        return "ready"
    return f"{environment.size_gb:g} GB, made on first use"


def environments_folder() -> Path:
    """Where all environments are."""
    return user_dirs.cache() / "environments"


def size_gb(folder: Path) -> float:
    """The size of the files in a folder, in GB. Files may come and go meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(parent) / name).lstat().st_size
    return total / 1e9


def _has_package(requirement: Requirement) -> bool:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)
