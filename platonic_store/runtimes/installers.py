"""uv where it is there, pip otherwise: the commands by which an environment is made.

uv links files from one cache, so environments share them. It does not read pip's configuration:
what that says is passed on.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

_SECTIONS = ("global", "install", ":env:")  # of pip's configuration, the strongest last
# pip's setting → uv's option, or the environment variable that uv reads.
_OPTIONS = {
    "index-url": "--default-index",
    "extra-index-url": "--extra-index-url",
    "find-links": "--find-links",
    "constraint": "--constraints",
    "trusted-host": "--allow-insecure-host",
    "no-binary": "--no-binary",
    "only-binary": "--only-binary",
}
_VARIABLES = {
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
}
_PLACES = ("index-url", "extra-index-url", "find-links", "no-index")


class Installer(NamedTuple):
    """How an environment is made. uv: its path, None for pip."""

    uv: str | None
    settings: dict[str, list[str]]  # of pip, as `pip_settings` gives them

    @property
    def variables(self) -> dict[str, str]:
        """The environment in which its commands run."""
        if self.uv is None:
            return dict(os.environ)
        named = {v: self.settings[k][0] for k, v in _VARIABLES.items() if self.settings.get(k)}
        return {"UV_HTTP_RETRIES": "2"} | named | dict(os.environ)

    @property
    def names_places(self) -> bool:
        """Whether the user says where packages come from, other than from PyPI."""
        own = ("UV_TORCH_BACKEND", "UV_FIND_LINKS", *_of_uv("INDEX"))
        return any(self.settings.get(name) for name in _PLACES) or any(map(os.environ.get, own))

    def create(self, base: str, folder: Path) -> list[str]:
        """Makes an environment of the interpreter `base`."""
        if self.uv:
            return [self.uv, "venv", "--no-project", "--clear", "--python", base, str(folder)]
        return [base, "-m", "venv", "--clear", str(folder)]

    def install(self, python: Path, *options: str, offline: bool = False) -> list[str]:
        """Installs what `options` say, in words that uv and pip share, beside `python`.

        offline: from no other place than they name.
        """
        if self.uv is None:
            pip = [str(python), "-I", "-m", "pip", "install", "--disable-pip-version-check"]
            quiet = ["--no-input", "--progress-bar=off", "--retries=2"]
            return [*pip, *quiet, *(["--no-index"] if offline else []), *options]
        uv = [self.uv, "pip", "install", "--no-progress", "--python", str(python)]
        exact = "--require-hashes" in options  # of which constraints, without hashes, are no part
        settings = {k: v for k, v in self.settings.items() if not (exact and k == "constraint")}
        places = ["--no-index"] if offline else [*_uv_options(settings)]
        return [*uv, *places, *options]

    def planned(self, python: Path, *options: str) -> dict[str, str]:
        """Package → version of what `install` would bring; empty where only trying would tell."""
        if self.uv is None:
            return {}
        command = [*self.install(python, *options), "--dry-run"]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.variables, cwd=python.parents[2]
        )
        return dict(re.findall(r"^ \+ (\S+?)==(\S+)", done.stderr, re.MULTILINE))

    def packages(self, python: Path) -> list[str]:
        """The packages beside `python`, as `name==version`."""
        freeze = [str(python), "-I", "-m", "pip", "freeze", "--disable-pip-version-check"]
        if self.uv:
            freeze = [self.uv, "pip", "freeze", "--python", str(python)]
        done = subprocess.run(freeze, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()


def installer() -> Installer:
    """uv beside this interpreter or on the PATH, else pip, with what pip's configuration says."""
    return Installer(find_uv(), pip_settings())


def find_uv() -> str | None:
    """The path of uv, if it is there."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv")


def pip_settings() -> dict[str, list[str]]:
    """What pip's files and environment variables say of an installation: setting → values."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True
    ).stdout
    lines = [line.partition("=") for line in listed.splitlines()]
    if not lines:  # there is no pip here, but it may be configured for others
        pip = {k: v for k, v in os.environ.items() if k.startswith("PIP_")}
        lines = [(f":env:.{k[4:].lower().replace('_', '-')}", "=", repr(v)) for k, v in pip.items()]
    found: dict[str, list[str]] = {}
    for section in _SECTIONS:
        for name, _, value in lines:
            if name.startswith(f"{section}."):
                text = str(ast.literal_eval(value))
                found[name.removeprefix(f"{section}.")] = [*map(_absolute, text.split())]
    return found


def _uv_options(settings: dict[str, list[str]]) -> Iterable[str]:
    """pip takes the best version of all places: uv, by default, that of the first."""
    yield "--index-strategy=unsafe-best-match"
    if {"1", "true", "yes", "on"} & set(settings.get("no-index", [])):
        yield "--no-index"
    for name, option in _OPTIONS.items():
        for value in settings.get(name, []):
            yield from (option, value)


def _absolute(value: str) -> str:
    """A path from here, as commands run elsewhere."""
    return str(Path(value).absolute()) if value and Path(value).exists() else value


def _of_uv(word: str) -> Sequence[str]:
    return [name for name in os.environ if name.startswith("UV_") and word in name]
