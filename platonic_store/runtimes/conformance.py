"""The conformance kit, run in the model's own interpreter."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

from platonic_store import errors, resources
from platonic_store.runtimes.preparation import RunnableModel
from platonic_store.runtimes.variables import VARIABLES


class Result(NamedTuple):
    """The result of one check of `ingest/conformance.py`.

    measured: in most checks the largest deviation of an atom's vector relative to its norm.
    tolerance: the limit of `measured`; None where it is only reported.
    """

    check: str
    passed: bool
    measured: float | None
    tolerance: float | None
    remark: str


def check(ready: RunnableModel, *, device: str = "auto") -> Iterator[Result]:
    """Run every check on a model in its own interpreter. Raises WorkerFailed if it cannot load."""
    script = resources.folder("ingest") / "conformance.py"
    request = json.dumps({"card": ready.card.as_dict(), "device": device})
    with (
        tempfile.TemporaryDirectory(prefix="platonic-store-") as folder,
        tempfile.TemporaryFile("w+") as stderr,
        subprocess.Popen(
            [ready.python, script, request],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=folder,
            env=os.environ | VARIABLES,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            yield Result(**json.loads(line))
        if code := process.wait():
            stderr.seek(0)
            lines = stderr.read().strip().splitlines() or [f"exit code {code}"]
            reason = _signal(-code) if code < 0 else lines[-1]
            raise errors.WorkerFailed(f"{ready.card.name} cannot be checked: {reason}")


def _signal(number: int) -> str:
    """How a process ended by a signal: what it wrote last is about something else."""
    is_killed = number == signal.SIGKILL
    return "killed, as where memory is short" if is_killed else f"ended by signal {number}"
