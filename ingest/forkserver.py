"""Imports a model's packages once, then forks workers. `python forkserver.py SOCKET CARD`

SOCKET is an inherited file descriptor, a Unix socket that keeps messages apart; CARD is JSON. A
message is the request of a worker (see `worker.py`), with four file descriptors: its stdin, stdout
and stderr, and a pipe to which its process id is written and, when it has ended, its exit code (a
signal's number, negative), a line each.

Only packages are imported here: a model is loaded by the worker, after the fork. Where a package
has started threads, which would not live on in a fork, nothing is forked and this process ends. It
ends when the socket is closed, and its workers with it. For a CPU alone: CUDA does not survive a
fork.
"""

import json
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # So that `ingest` is imported as a package.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from ingest import worker
from ingest.families import part

# Threads that see to it themselves that they live on in a fork: of Arrow's allocator.
SAFE_THREADS = {"jemalloc_bg_thd"}


def may_fork() -> bool:
    """Whether no package has started a thread."""
    _main, *others = sorted(Path("/proc/self/task").iterdir(), key=lambda task: int(task.name))
    return {(task / "comm").read_text().strip() for task in others} <= SAFE_THREADS


def serve(control: socket.socket) -> dict[str, Any] | None:
    """Forks until the socket is closed. Returns the request in a fork, in the server None."""
    ends: dict[int, tuple[int, int]] = {}  # of each fork: pidfd → its id, the pipe to say so
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not control:
                    selector.unregister(key.fd)
                    _report_end(key.fd, *ends.pop(key.fd))
                    continue
                message, fds, _, _ = socket.recv_fds(control, 1 << 20, 4)
                if not message:
                    return None
                *streams, said = fds
                if (pid := os.fork()) == 0:
                    for target, stream in enumerate(streams):
                        os.dup2(stream, target)
                    for fd in (*fds, *ends, *(pipe for _, pipe in ends.values())):
                        os.close(fd)
                    control.close()
                    request: dict[str, Any] = json.loads(message)
                    return request
                for stream in streams:
                    os.close(stream)
                _say(said, pid)
                pidfd = os.pidfd_open(pid)
                ends[pidfd] = pid, said
                selector.register(pidfd, selectors.EVENT_READ)


def _report_end(pidfd: int, pid: int, said: int) -> None:
    _, status = os.waitpid(pid, 0)
    _say(said, os.waitstatus_to_exitcode(status))
    os.close(said)
    os.close(pidfd)


def _say(pipe: int, number: int) -> None:
    with suppress(BrokenPipeError):  # nobody asks any more
        os.write(pipe, f"{number}\n".encode())


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    control = socket.socket(fileno=int(sys.argv[1]))
    with suppress(Exception):  # of which each worker tells
        part(json.loads(sys.argv[2]), "adapter")
    server = os.getpid()
    request = serve(control) if may_fork() else None
    if request is None:
        os._exit(0)
    worker.main(request, server)


if __name__ == "__main__":
    main()
