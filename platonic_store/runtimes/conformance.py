"""The conformance kit, run where the model runs."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

from platonic_store import errors, resources
from platonic_store.runtimes.preparation import RunnableModel
from platonic_store.runtimes.process import VARIABLES


class Result(NamedTuple):
    """What one check of `ingest/conformance.py` found.

    measured: what it measured, in most checks the largest deviation of an atom's vector relative
    to its norm. tolerance: what `measured` may be, None where it is only stated.
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
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(
            [ready.python, script, request],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            cwd=folder,
            env=os.environ | VARIABLES,
        ) as kit,
    ):
        assert kit.stdout is not None
        for line in kit.stdout:
            yield Result(**json.loads(line))
        if kit.wait():
            said.seek(0)
            last = (said.read().strip().splitlines() or [f"exit code {kit.returncode}"])[-1]
            raise errors.WorkerFailed(f"{ready.card.name} cannot be checked: {last}")
