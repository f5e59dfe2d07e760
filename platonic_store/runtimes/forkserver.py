"""Workers of one model forked from one process: the parent's end of `ingest/forkserver.py`."""

import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from platonic_store import resources
from platonic_store.runtimes.cards import Card
from platonic_store.runtimes.cores import usable_cores
from platonic_store.runtimes.preparation import ModelElsewhere, RunnableModel
from platonic_store.runtimes.variables import VARIABLES

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
    """A process that imports a model's packages, and forks its workers when it has.

    Where it cannot, it ends, and its workers must be started otherwise. Use as a context manager.
    """

    def __init__(self, python: Path, card: Card) -> None:
        self._folder = tempfile.TemporaryDirectory(
            prefix="platonic-store-", ignore_cleanup_errors=True
        )
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        script = resources.folder("ingest") / "forkserver.py"
        with theirs:
            self._process = subprocess.Popen(
                [python, script, str(theirs.fileno()), json.dumps(card.as_dict())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self._folder.name,  # its workers' too: for files that a library leaves behind
                env=os.environ | VARIABLES,
                pass_fds=[theirs.fileno()],
            )

    def fork(self, request: dict[str, Any], stdin: int, stdout: int, stderr: int) -> "Forked":
        """A worker, as soon as the packages are imported. Raises OSError if the server has ended.

        The file descriptors remain the caller's to close.
        """
        said, theirs = os.pipe()
        forked = Forked(said)
        try:
            message = json.dumps(request).encode()
            socket.send_fds(self._control, [message], [stdin, stdout, stderr, theirs])
        except BaseException:
            forked.close()
            raise
        finally:
            os.close(theirs)
        return forked

    def close(self) -> None:
        """Ends it, and within a second its workers."""
        self._control.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@contextmanager
def servers_ahead(
    models: Sequence[AnyModel], device: str
) -> Iterator[Iterator[tuple[AnyModel, Forkserver | None]]]:
    """Each model with its server, begun while the model before runs, the first's at once.

    None where workers are not forked. All servers are closed at the end of the block.
    """
    with ExitStack() as stack:

        def begin(place: int) -> Forkserver | None:
            if place == len(models) or usable_cores() == 1 or not may_fork(device):
                return None
            model = models[place]
            if not isinstance(model, RunnableModel):  # it runs elsewhere
                return None
            return stack.enter_context(Forkserver(model.python, model.card))

        def pairs(server: Forkserver | None) -> Iterator[tuple[AnyModel, Forkserver | None]]:
            for place, model in enumerate(models, 1):
                following = begin(place)
                yield model, server
                server = following

        yield pairs(begin(0))


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
