"""Wheelhouses: a family's packages in a folder, for machines without a network.

A wheelhouse holds wheels, which families share, and for each family a list of them with their
SHA-256, `FAMILY.txt`. Its first line says of which Python and platform they are.
"""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from packaging.utils import parse_wheel_filename

from platonic_store.errors import Call, EnvironmentNotReady
from platonic_store.runtimes import locks, torch_builds
from platonic_store.runtimes.environments import PYARROW, Environment
from platonic_store.runtimes.installers import Installer


def fill(environment: Environment, installer: Installer, folder: Path) -> int:
    """Put the wheels that a family's environment needs here into a folder; returns how many.

    What PyPI has as source alone is built. Raises EnvironmentNotReady.
    """
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "wheels"
        for step in _steps(environment, installer, Path(scratch), made):
            done = subprocess.run(step, capture_output=True, text=True, cwd=scratch)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
                raise EnvironmentNotReady(
                    f"the wheels of {environment.family} cannot be had: {reason[:300]}"
                )
        folder.mkdir(parents=True, exist_ok=True)
        wheels = [_kept(path, folder) for path in sorted(made.glob("*.whl"))]
    lines = [_head(environment), *map(_line, wheels)]
    (folder / f"{environment.family}.txt").write_text("\n".join(lines) + "\n")
    return len(wheels)


def options(environment: Environment, folder: Path) -> list[str]:
    """What an installer is told to take a family's packages from a wheelhouse.

    Raises EnvironmentNotReady if that has them not, or for another Python or platform.
    """
    listed = folder.absolute() / f"{environment.family}.txt"
    found = listed.read_text().partition("\n")[0] if listed.exists() else None
    if found != _head(environment):
        other = f", but {found.removeprefix('# ')}" if found else ""
        raise EnvironmentNotReady(
            f"{folder} does not hold {_head(environment).removeprefix('# ')}{other}",
            Call("models.bundle", [environment.family], wheelhouse="FOLDER"),
        )
    place = ["--find-links", str(folder.absolute())]
    return [*place, "--no-deps", "--require-hashes", "-r", str(listed)]


def _head(environment: Environment) -> str:
    return f"# {environment.folder.name} for {environment.platform}"


def _steps(
    environment: Environment, installer: Installer, scratch: Path, wheels: Path
) -> list[list[str]]:
    """pip alone can fetch without installing: that of a new environment."""
    python = scratch / "python"
    pip = [str(python / "bin" / "python"), "-I", "-m", "pip", "wheel", "--quiet", "-w", str(wheels)]
    pins = [*locks.pins(environment), *environment.constraints]
    (scratch / "pins.txt").write_text("\n".join(pins))
    where = torch_builds.places(environment, installer)
    open_ended = [*pip, "-c", "pins.txt", *where, "--find-links", str(wheels), PYARROW]
    steps = [[str(environment.base_python), "-m", "venv", str(python)]]
    if environment.lock_file.exists():
        steps.append([*pip, "--no-deps", "--require-hashes", "-r", str(environment.lock_file)])
        return [*steps, [*open_ended, *environment.requires]]
    steps.append([*open_ended, *environment.requires])
    if environment.without_dependencies:
        steps.append([*pip, "--no-deps", *environment.without_dependencies])
    return steps


def _kept(wheel: Path, folder: Path) -> Path:
    """The wheel in the folder; one that another family brought stays."""
    place = folder / wheel.name
    if not place.exists():
        shutil.move(wheel, place)
    return place


def _line(wheel: Path) -> str:
    name, version, *_ = parse_wheel_filename(wheel.name)
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{name}=={version} --hash=sha256:{digest}"
