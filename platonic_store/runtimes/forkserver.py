"""Workers of one model forked from one process: the parent's end of `ingest/forkserver.py`."""

import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Self

from platonic_store import resources
from platonic_store.runtimes.cards import Card
from platonic_store.runtimes.cores import usable_cores
from platonic_store.runtimes.environments import Environment
from platonic_store.runtimes.preparation import ModelElsewhere, RunnableModel
from platonic_store.runtimes.torch_builds import has_torch
from platonic_store.runtimes.variables import VARIABLES

# What the packages of nearly all families with torch import.
LIBRARIES = ("torch", "ase")

AnyModel = RunnableModel | ModelElsewhere


def may_fork(device: str) -> bool:
    """Whether workers on a device can be forked here: on Linux, and surely without a GPU."""
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return False
    return not gpu_possible(device)


def gpu_possible(device: str) -> bool:
    """False if the workers will surely be on the CPU. The parent cannot ask torch."""
    if device != "auto":
        return device != "cpu"
    return any(Path(node).exists() for node in ("/dev/nvidia0", "/dev/dxg", "/dev/kfd"))


class Forkserver:
    """A process that loads a model on the CPU, and forks its workers when it has.

    Where it cannot, it ends, and its workers must be started otherwise. Use as a context manager.
    """

    def __init__(self, python: Path, card: Card | None, of: "Forkserver | None" = None) -> None:
        """of: a server of the same interpreter without a card, of whose libraries this is a fork.

        Raises OSError if that has ended.
        """
        self._folder = tempfile.TemporaryDirectory(
            prefix="platonic-store-", ignore_cleanup_errors=True
        )
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        what: dict[str, Any] = {"libraries": LIBRARIES, "card": None}
        if card is not None:
            is_of_torch = has_torch(Environment.of(card))
            what = {"libraries": LIBRARIES[:1] * is_of_torch, "card": card.as_dict()}
        self._of = of
        try:
            with theirs:
                self._process = (
                    of.fork(what, theirs.fileno())
                    if of is not None
                    else self._begun(python, what, theirs.fileno())
                )
        except BaseException:
            self._control.close()
            self._folder.cleanup()
            raise

    def _begun(self, python: Path, what: dict[str, Any], control: int) -> "subprocess.Popen[bytes]":
        script = resources.folder("ingest") / "forkserver.py"
        return subprocess.Popen(
            [python, script, str(control), json.dumps(what)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._folder.name,  # its workers' too: for files that a library leaves behind
            env=os.environ | VARIABLES,
            pass_fds=[control],
        )

    def fork(self, request: dict[str, Any], *fds: int) -> "Forked":
        """A worker, or another server, as soon as the model is loaded.

        fds: of a worker stdin, stdout and stderr, of a server its socket; they remain the caller's
        to close. Raises OSError if this server has ended.
        """
        said, theirs = os.pipe()
        forked = Forked(said)
        try:
            message = json.dumps(request).encode()
            socket.send_fds(self._control, [message], [*fds, theirs])
        except BaseException:
            forked.close()
            raise
        finally:
            os.close(theirs)
        return forked

    def close(self) -> None:
        """Ends it, and within a second its workers."""
        self._control.close()
        if self._of is not None and not self._process.pid:  # what is to fork it is still busy
            self._of.close()
        self._process.kill()
        self._process.wait()
        if isinstance(self._process, Forked):
            self._process.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def servers_ahead(
    models: Sequence[AnyModel], device: str
) -> Iterator[Iterator[tuple[AnyModel, Forkserver | None]]]:
    """Each model with its server: those of the first two begin at once, others when asked for.

    Models of one interpreter have servers that are forked from one which has imported torch. None
    where workers are not forked. All servers are closed at the end of the block.
    """
    here = [model for model in models if isinstance(model, RunnableModel)]
    of_torch = Counter(model.python for model in here if has_torch(Environment.of(model.card)))
    common: dict[Path, Forkserver] = {}
    with ExitStack() as stack:

        def begin(model: AnyModel) -> Forkserver | None:
            if not isinstance(model, RunnableModel) or usable_cores() == 1 or not may_fork(device):
                return None
            python = model.python
            if of_torch[python] < 2:
                return stack.enter_context(Forkserver(python, model.card))
            if python not in common:
                common[python] = stack.enter_context(Forkserver(python, None))
            try:
                return stack.enter_context(Forkserver(python, model.card, common[python]))
            except OSError:  # it has ended
                return None

        first = [(model, begin(model)) for model in models[:2]]
        yield chain(first, ((model, begin(model)) for model in models[2:]))


class Forked:
    """A process that a forkserver was asked for: what a worker needs of `subprocess.Popen`."""

    def __init__(self, said: int) -> None:
        """said: the pipe with its process id and its exit code."""
        self._pipe = os.fdopen(said, "rb", buffering=0)
        self._said, self._is_ended = b"", False

    @property
    def pid(self) -> int:
        """Its process id, 0 before it is known."""
        self._listen(0)
        return self._number(0) or 0

    def kill(self) -> None:
        """Ends it at once, if it has begun and not ended."""
        if (pid := self.pid) and self._number(1) is None and not self._is_ended:
            os.kill(pid, 9)

    def wait(self, timeout: float | None = None) -> int | None:
        """Its exit code; None if its server ended before it. Raises TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._is_ended:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._listen(left):
                raise subprocess.TimeoutExpired("worker", timeout or 0.0)
        return self._number(1)

    def close(self) -> None:
        """Forgets it."""
        self._is_ended = True
        self._pipe.close()

    def _listen(self, seconds: float | None) -> bool:
        """Takes in what there is to know; False if there was nothing."""
        if self._is_ended:
            return False
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        if not poll.poll(None if seconds is None else 1000 * seconds):
            return False
        new = self._pipe.read(64)
        self._said += new
        self._is_ended = not new
        return True

    def _number(self, line: int) -> int | None:
        lines = self._said.split(b"\n")[:-1]
        return int(lines[line]) if line < len(lines) else None
