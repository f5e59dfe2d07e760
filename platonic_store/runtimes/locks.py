"""The lock of a family: the exact files that its environment may be made of.

`lock.txt`, beside `environment.yaml`, is a requirements file with the SHA-256 of each file on PyPI.
It holds for every platform and Python that the family allows. torch and what it brings for a GPU
are not in it: their build is the machine's, so their versions are pinned and their files are not.
"""

import hashlib
import json
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.utils import parse_wheel_filename

from platonic_store.errors import Call, EnvironmentNotReady
from platonic_store.runtimes.environments import PYARROW, Environment
from platonic_store.runtimes.installers import Installer
from platonic_store.runtimes.torch_builds import GPU_PACKAGES

PYPI = "https://pypi.org/simple"
_OF = "# of "  # the specification that was locked
_OLDEST_PYTHON = "3.11"


def read(environment: Environment) -> list[str]:
    """The requirements of a family's lock with their hashes; none where it has no lock.

    Raises EnvironmentNotReady for a lock of another specification.
    """
    if not environment.lock_file.exists():
        return []
    text = environment.lock_file.read_text()
    if _of(environment) not in text.partition("\n\n")[0]:
        raise EnvironmentNotReady(
            f"the lock of {environment.family} is not of its environment.yaml",
            Call("models.lock", [environment.family]),
        )
    joined = text.replace("\\\n", " ").splitlines()
    return [line for line in joined if line and not line.startswith("#")]


def pins(environment: Environment) -> list[str]:
    """The lock's versions as constraints: no hashes."""
    return [re.split(r"\s+--hash", line)[0] for line in read(environment)]


def write(environment: Environment, installer: Installer) -> int:
    """Lock the newest versions that the specification allows; returns how many packages.

    From PyPI alone, whatever this machine's settings say. Raises EnvironmentNotReady.
    """
    if installer.uv is None:
        raise EnvironmentNotReady("a lock is made by uv, which is not here", "pip install uv")
    found = _resolve(installer, environment, [PYARROW, *environment.requires])
    if environment.without_dependencies:
        found |= _resolve(installer, environment, environment.without_dependencies, "--no-deps")
    head = [
        f"# The environment of {environment.family}, by `platonic-store models lock`.",
        _of(environment),
        "",
    ]
    lines = [line for package in found.values() for line in package]
    environment.lock_file.write_text("\n".join([*head, *lines]) + "\n")
    return len(found)


def _of(environment: Environment) -> str:
    fields = [environment.requires, environment.constraints, environment.without_dependencies]
    text = json.dumps([*fields, environment.python, PYARROW])
    return _OF + hashlib.sha256(text.encode()).hexdigest()[:16]


def _resolve(
    installer: Installer, environment: Environment, requires: Iterable[str], *options: str
) -> dict[tuple[str, str], list[str]]:
    """(package, version) → its lines, in order."""
    allowed = SpecifierSet(environment.python)
    python = _OLDEST_PYTHON if allowed.contains(f"{_OLDEST_PYTHON}.99") else "3.10"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pins.txt").write_text("\n".join(environment.constraints))
        command = [
            *(str(installer.uv), "pip", "compile", "-", "--quiet", "--universal", "--no-config"),
            *("--python-version", python, "--default-index", PYPI, "-c", "pins.txt"),
            *("--format", "pylock.toml", "-o", "pylock.toml", *options),
        ]
        variables = {
            name: value
            for name, value in installer.variables.items()
            if not name.startswith(("UV_INDEX", "UV_DEFAULT_INDEX", "UV_FIND", "UV_TORCH"))
        }
        done = subprocess.run(
            command,
            input="\n".join(requires),
            cwd=folder,
            env=variables,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            reason = " ".join(done.stderr.split())[-300:]
            raise EnvironmentNotReady(f"{environment.family} cannot be locked: {reason}")
        packages = tomllib.loads((Path(folder) / "pylock.toml").read_text())["packages"]
    return {
        (package["name"], package["version"]): list(_lines(package))
        for package in packages
        if package["name"] != "torch" and not package["name"].startswith(GPU_PACKAGES)
    }


def _lines(package: dict[str, Any]) -> Iterator[str]:
    """A requirement and the hashes of its files: those for CPython on Linux and macOS."""
    files = [each for each in package.get("wheels", []) if _is_wanted(each["url"])]
    files += [package["sdist"]] if "sdist" in package else []
    marker = f" ; {package['marker']}" if "marker" in package else ""
    yield f"{package['name']}=={package['version']}{marker} \\"
    hashes = [f"    --hash=sha256:{each['hashes']['sha256']}" for each in files]
    yield " \\\n".join(hashes)


def _is_wanted(url: str) -> bool:
    *_, tags = parse_wheel_filename(url.rsplit("/", 1)[1])
    return any(
        tag.interpreter.startswith(("py3", "cp3"))
        and not tag.abi.endswith("t")  # free-threaded
        and ("manylinux" in tag.platform or "macosx" in tag.platform or tag.platform == "any")
        for tag in tags
    )
