"""Creating and removing the environments of families.

Several processes may want the same environment, and any of them may be killed. The lock is an flock
whose file descriptor pip inherits: it is held as long as anything still installs, even after the
parent was killed. An environment without its marker is created anew; pip's downloads are in pip's
cache.
"""

import fcntl
import json
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from packaging.requirements import Requirement

from platonic_store import progress, resources
from platonic_store.errors import Call, EnvironmentNotReady
from platonic_store.runtimes.environments import Environment, environments_folder, size_gb

PYARROW = "pyarrow>=20"  # for the worker's streams
_POLL_SECONDS = 2.0
_OTHER_CACHE = "set PLATONIC_STORE_CACHE to another folder"
_OWN_PYTHON = Call("ingest", "SOURCE", models=["MODEL"], python="PATH")

logger = logging.getLogger(__name__)


@contextmanager
def install_lock(folder: Path, *, wait: bool = True) -> Iterator[int]:
    """Holds the lock of an environment's folder.

    Yields the lock's file descriptor, or 0 if another process holds it and `wait` is false.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                yield 0
                return
            progress.say(f"waiting for another process that creates {folder.name}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def install(environment: Environment) -> None:
    """Create the environment, unless another process has done so meanwhile.

    Raises EnvironmentNotReady.
    """
    family, folder = environment.family, environment.folder
    if environment.base_python is None:
        raise EnvironmentNotReady(
            f"{family} needs Python {environment.python}, this one is {platform.python_version()}",
            f"install Python {environment.python} beside it",
            _OWN_PYTHON,
        )
    try:
        with install_lock(folder) as lock:
            if environment.is_installed():
                return
            cuda = ", several more where torch comes with CUDA," if _has_torch(environment) else ""
            size = f"some {environment.size_gb:g} GB{cuda}"
            progress.say(f"creating the environment of {family}, {size} in {folder}")
            logger.info("creating the environment of %s in %s", family, folder)
            _install(environment, lock)
            logger.info("created the environment of %s in %s", family, folder)
    except OSError as error:
        raise EnvironmentNotReady(
            f"the environment of {family} cannot be created in {folder} ({error.strerror})",
            _OTHER_CACHE,
            _OWN_PYTHON,
        ) from None


def remove(families: Sequence[str] = ()) -> list[tuple[str, float]]:
    """Remove the environments of some families, or of all if none is named.

    Returns the name of each and its size in GB. One that is being created stays. Raises
    EnvironmentNotReady if a named family has no environment.
    """
    folders = sorted(environments_folder().glob("*/"))
    known = {_family(folder) for folder in folders}
    if unknown := sorted(set(families) - known):
        raise EnvironmentNotReady(
            f"no environment of {', '.join(unknown)} (here: {', '.join(sorted(known)) or 'none'})"
        )
    removed = []
    for folder in folders:
        if families and _family(folder) not in families:
            continue
        with install_lock(folder, wait=False) as lock:
            if lock:
                removed.append((folder.name, size_gb(folder)))
                shutil.rmtree(folder)
                logger.info("removed the environment %s", folder)
    return removed


def _family(folder: Path) -> str:
    return folder.name.rsplit("-", 1)[0]


def _has_torch(environment: Environment) -> bool:
    return any(Requirement(text).name == "torch" for text in environment.requires)


def _install(environment: Environment, lock: int) -> None:
    folder = environment.folder
    free = shutil.disk_usage(folder.parent).free / 1e9
    if free < environment.size_gb:
        raise EnvironmentNotReady(
            f"the environment of {environment.family} takes some {environment.size_gb:g} GB, "
            f"and {folder.parent} has {free:.1f} GB left",
            "free disk space",
            _OTHER_CACHE,
        )
    environment.folder.with_suffix(".log").write_text("")
    python = str(environment.interpreter)
    pip = [python, "-I", "-m", "pip", "install", "--disable-pip-version-check"]
    pip += ["--no-input", "--progress-bar=off", "--retries=2"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
        pins.write("\n".join(environment.constraints))
        pins.flush()
        steps = [
            [str(environment.base_python), "-m", "venv", "--clear", str(folder)],
            [*pip, "--constraint", pins.name, PYARROW, *environment.requires],
        ]
        if environment.without_dependencies:
            steps.append([*pip, "--no-deps", *environment.without_dependencies])
        ingest = resources.folder("ingest")
        steps.append([python, "-c", _IMPORT_CHECK, str(ingest.parent),
                      str(environment.family_folder), environment.family])  # fmt: skip
        with progress.bytes_bar(environment.family, environment.size_gb * 1e9) as bar:
            for step in steps:
                _run(environment, step, lock, bar)
    freeze = [python, "-I", "-m", "pip", "freeze", "--disable-pip-version-check"]
    packages = subprocess.run(freeze, capture_output=True, text=True, check=True).stdout
    contents = {"family": environment.family, "packages": packages.splitlines()}
    partial = environment.marker.with_suffix(".partial")
    partial.write_text(json.dumps(contents, indent=2))
    partial.replace(environment.marker)


# An environment in which the family's adapter cannot be imported is not complete.
_IMPORT_CHECK = """
import sys
sys.path.insert(0, sys.argv[1])
import pyarrow
from ingest.families import part
part({"folder": sys.argv[2], "family": sys.argv[3]}, "adapter")
"""


def _run(
    environment: Environment, step: Sequence[str | Path], lock: int, bar: progress.Bytes
) -> None:
    """Runs one step, its output in a log and its size on the bar. The child holds the lock too."""
    log = environment.folder.with_suffix(".log")
    with log.open("a+") as output:
        child = subprocess.Popen(
            step, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=[lock]
        )
        try:
            while _is_running(child):
                title = f"{environment.family}: {_current_action(log)}"
                bar.reach(size_gb(environment.folder) * 1e9, title)
        except BaseException:
            child.kill()
            child.wait()
            raise
    if child.returncode:
        raise EnvironmentNotReady(
            f"the environment of {environment.family} could not be created "
            f"({_failure_reason(log)}; see {log})",
            "try again",
            _OWN_PYTHON,
        )


def _is_running(child: subprocess.Popen[bytes]) -> bool:
    try:
        child.wait(_POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _current_action(log: Path) -> str:
    """The first words of the log's last line."""
    words = (_last_lines(log) or ["starting"])[-1].split()
    return " ".join(words[:2])[:40]


def _failure_reason(log: Path) -> str:
    """pip's last error, else the log's last line."""
    lines = _last_lines(log) or ["no output"]
    if any("Retrying" in line and "connection" in line for line in lines):
        return "the package registry cannot be reached"
    pip_errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (pip_errors or lines)[-1][:300]


def _last_lines(log: Path) -> list[str]:
    with log.open(errors="replace") as file:
        return [line.strip() for line in deque(file, 50) if line.strip()]
