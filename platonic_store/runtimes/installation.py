"""Creating and removing the environments of families.

Several processes may want the same environment, and any of them may be killed. The lock is an flock
whose file descriptor the installer inherits: it is held as long as anything still installs, even
after the parent was killed. An environment without its marker is created anew; downloads are in the
cache of uv or pip.
"""

import fcntl
import json
import logging
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from platonic_store import progress, resources
from platonic_store.errors import Call, EnvironmentNotReady
from platonic_store.runtimes import locks, torch_builds, wheelhouses
from platonic_store.runtimes.environments import (
    PYARROW,
    Environment,
    environments_folder,
    size_gb,
)
from platonic_store.runtimes.installers import Installer, installer
from platonic_store.runtimes.torch_builds import has_torch

_POLL_SECONDS = 1.0
_IS_ERROR = re.compile(r"(error:|×|╰─▶|cause:|Caused by:)\s*", re.IGNORECASE)
_UNREACHABLE = ("Retrying (Retry", "error sending request", "client error (Connect)")
_OTHER_CACHE = "set PLATONIC_STORE_CACHE to another folder"
_OWN_PYTHON = Call("ingest", "SOURCE", models=["MODEL"], python="PATH")

logger = logging.getLogger(__name__)


@contextmanager
def install_lock(
    folder: Path, *, wait: bool = True, remark: str = "another process that creates {}"
) -> Iterator[int]:
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
            progress.say(f"waiting for {remark.format(folder.name)}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def install(environment: Environment, wheelhouse: Path | None = None) -> None:
    """Create the environment, unless another process has done so meanwhile.

    wheelhouse: a folder that `models.bundle` filled; nothing else is read, and no network.

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
            logger.info("creating the environment of %s in %s", family, folder)
            _install(environment, lock, wheelhouse)
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


def _install(environment: Environment, lock: int, wheelhouse: Path | None) -> None:
    """Make the environment's folder, step by step; the marker comes last."""
    _require_space(environment, environment.size_gb)
    environment.folder.with_suffix(".log").write_text("")
    python, tool = environment.interpreter, installer()
    with (
        tempfile.TemporaryDirectory() as folder,
        _downloads(environment),
        progress.bytes_bar(environment.family, environment.size_gb * 1e9) as bar,
    ):
        run = partial(_run, environment, tool.variables, lock, bar)
        run(tool.create(str(environment.base_python), environment.folder))
        if wheelhouse:
            run(tool.install(python, *wheelhouses.options(environment, wheelhouse), offline=True))
        else:
            for options in _online(environment, tool, Path(folder)):
                run(tool.install(python, *options))
        ingest = resources.folder("ingest")
        run(
            [
                str(python),
                "-c",
                _IMPORT_CHECK,
                str(ingest.parent),
                str(environment.family_folder),
                environment.family,
            ]
        )
    contents = {"family": environment.family, "packages": tool.packages(python)}
    partial_file = environment.marker.with_suffix(".partial")
    partial_file.write_text(json.dumps(contents, indent=2))
    partial_file.replace(environment.marker)


def _online(environment: Environment, tool: Installer, folder: Path) -> list[list[str]]:
    """The options of each installation from an index, after saying what will come.

    A lock's files come first, by their hashes; then what it leaves to the machine, by its versions.
    """
    pins = [*locks.pins(environment), *environment.constraints]
    (folder / "pins.txt").write_text("\n".join(pins))
    where = torch_builds.places(environment, tool)
    wanted = ["-c", str(folder / "pins.txt"), *where, PYARROW, *environment.requires]
    planned = tool.planned(environment.interpreter, *wanted) if has_torch(environment) else {}
    size = torch_builds.described(environment, planned, where)
    progress.say(
        f"creating the environment of {environment.family}, {size} in {environment.folder}"
    )
    if torch_builds.brings_cuda(planned):
        _require_space(environment, environment.size_gb + torch_builds.CUDA_GB)
    if environment.lock_file.exists():
        return [["--no-deps", "--require-hashes", "-r", str(environment.lock_file)], wanted]
    return [wanted, *([["--no-deps", *rest]] if (rest := environment.without_dependencies) else [])]


@contextmanager
def _downloads(environment: Environment) -> Iterator[None]:
    """One environment at a time is downloaded: the next one finds in the cache what they share."""
    remark = f"another environment to be made before that of {environment.family}"
    with install_lock(environment.folder.parent / "downloads", remark=remark):
        yield


def _require_space(environment: Environment, size: float) -> None:
    folder = environment.folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    if free < size:
        raise EnvironmentNotReady(
            f"the environment of {environment.family} takes some {size:g} GB, "
            f"and {folder} has {free:.1f} GB left",
            "free disk space",
            _OTHER_CACHE,
        )


# An environment in which the family's adapter cannot be imported is not complete.
_IMPORT_CHECK = """
import sys
sys.path.insert(0, sys.argv[1])
import pyarrow
from ingest.families import part
part({"folder": sys.argv[2], "family": sys.argv[3]}, "adapter")
"""


def _run(
    environment: Environment,
    variables: dict[str, str],
    lock: int,
    bar: progress.Bytes,
    step: list[str],
) -> None:
    """Runs one step, its output in a log and its size on the bar. The child holds the lock too."""
    log = environment.folder.with_suffix(".log")
    with log.open("a+") as output:
        child = subprocess.Popen(
            step,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[lock],
            env=variables,
            cwd=environment.folder.parent,  # where no project's settings lie
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
    """The last error of uv or pip, else the log's last line."""
    lines = _last_lines(log) or ["no output"]
    if any(sign in line for line in lines for sign in _UNREACHABLE):
        return "the package registry cannot be reached"
    if any("hash" in line.lower() and "mismatch" in line.lower() for line in lines):
        return "a package is not the file that the lock names"
    said = [_IS_ERROR.sub("", line) for line in lines if _IS_ERROR.match(line)]
    return " ".join(": ".join(said[-2:] or lines[-1:]).split())[:300]


def _last_lines(log: Path) -> list[str]:
    with log.open(errors="replace") as file:
        return [line.strip() for line in deque(file, 50) if line.strip()]
