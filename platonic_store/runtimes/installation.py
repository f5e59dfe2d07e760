"""Making the environment of a family, once, whoever else wants it and however often it is stopped.

The lock is an flock whose file descriptor pip inherits: as long as anything still installs, even
after its parent was killed, the lock is held. An environment without its marker is begun anew;
what pip had downloaded is in pip's cache.
"""

import fcntl
import json
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

from platonic_store import errors, progress, resources
from platonic_store.runtimes.environments import PYARROW, Environment, size_gb

_GLANCE_SECONDS = 2.0


@contextmanager
def making(folder: Path, *, wait: bool = True) -> Iterator[int]:
    """The right to write to an environment's folder: the lock's file descriptor, or 0 if another
    process has it and we do not wait."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                yield 0
                return
            progress.say(f"waiting for another process that makes {folder.name}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def make(environment: Environment) -> None:
    """Make the environment, unless another process has made it meanwhile.

    Raises EnvironmentNotReady with the reason and what mends it.
    """
    name = environment.family
    if environment.base is None:
        raise errors.EnvironmentNotReady(
            f"{name} needs a Python {environment.python}, this one is "
            f"{platform.python_version()}: install one beside it, or name it with --python"
        )
    try:
        with making(environment.folder) as lock:
            if environment.is_made():
                return
            cuda = ", several more where torch comes with CUDA," if _has_torch(environment) else ""
            progress.say(
                f"making the environment of {name}, some {environment.size_gb:g} GB{cuda} in "
                f"{environment.folder} (`platonic-store models clean {name}` removes it)"
            )
            _install(environment, lock)
    except OSError as error:
        raise errors.EnvironmentNotReady(
            f"the environment of {name} cannot be made in {environment.folder} ({error.strerror}): "
            "name another folder in PLATONIC_STORE_CACHE, or an interpreter with --python"
        ) from None


def _has_torch(environment: Environment) -> bool:
    return any(Requirement(text).name == "torch" for text in environment.requires)


def _install(environment: Environment, lock: int) -> None:
    folder = environment.folder
    free = shutil.disk_usage(folder.parent).free / 1e9
    if free < environment.size_gb:
        raise errors.EnvironmentNotReady(
            f"the environment of {environment.family} takes some {environment.size_gb:g} GB, "
            f"and {folder.parent} has {free:.1f} GB left: make room, or name another folder in "
            "PLATONIC_STORE_CACHE"
        )
    environment.folder.with_suffix(".log").write_text("")
    python = str(environment.interpreter)
    pip = [python, "-I", "-m", "pip", "install", "--disable-pip-version-check"]
    pip += ["--no-input", "--progress-bar=off", "--retries=2"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pins:
        pins.write("\n".join(environment.constraints))
        pins.flush()
        steps = [
            [str(environment.base), "-m", "venv", "--clear", str(folder)],
            [*pip, "--constraint", pins.name, PYARROW, *environment.requires],
        ]
        if environment.without_dependencies:
            steps.append([*pip, "--no-deps", *environment.without_dependencies])
        ingest = resources.folder("ingest")
        steps.append([python, "-c", _TRIAL, str(ingest.parent), str(environment.family_folder),
                      environment.family])  # fmt: skip
        with progress.bytes_bar(environment.family, environment.size_gb * 1e9) as bar:
            for step in steps:
                _run(environment, step, lock, bar)
    freeze = [python, "-I", "-m", "pip", "freeze", "--disable-pip-version-check"]
    packages = subprocess.run(freeze, capture_output=True, text=True, check=True).stdout
    contents = {"family": environment.family, "packages": packages.splitlines()}
    partial = environment.marker.with_suffix(".partial")
    partial.write_text(json.dumps(contents, indent=2))
    partial.replace(environment.marker)


# Can the family's adapter be imported? An environment in which it cannot is not ready.
_TRIAL = """
import sys
sys.path.insert(0, sys.argv[1])
import pyarrow
from ingest.families import part
part({"folder": sys.argv[2], "family": sys.argv[3]}, "adapter")
"""


def _run(
    environment: Environment, step: Sequence[str | Path], lock: int, bar: progress.Bytes
) -> None:
    """One step, its output in a log and its size on the bar. The child holds the lock too."""
    path = environment.folder.with_suffix(".log")
    with path.open("a+") as log:
        child = subprocess.Popen(
            step, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[lock]
        )
        try:
            while _runs(child):
                bar.reach(
                    size_gb(environment.folder) * 1e9, f"{environment.family}: {_doing(path)}"
                )
        except BaseException:
            child.kill()
            child.wait()
            raise
    if child.returncode:
        raise errors.EnvironmentNotReady(
            f"the environment of {environment.family} could not be made ({_reason(path)}; see "
            f"{path}): the same command tries again, --python names an interpreter instead"
        )


def _runs(child: subprocess.Popen) -> bool:
    try:
        child.wait(_GLANCE_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _doing(log: Path) -> str:
    """The last thing that pip said it does."""
    words = (_lines(log) or ["starting"])[-1].split()
    return " ".join(words[:2])[:40]


def _reason(log: Path) -> str:
    """Why it failed: pip's last error, else the last line."""
    lines = _lines(log) or ["it said nothing"]
    if any("Retrying" in line and "connection" in line for line in lines):
        return "the package registry cannot be reached"
    said = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (said or lines)[-1][:300]


def _lines(log: Path) -> list[str]:
    with log.open(errors="replace") as file:
        return [line.strip() for line in deque(file, 50) if line.strip()]
