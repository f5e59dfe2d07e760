"""Loads a model once, then forks workers. `python forkserver.py SOCKET WHAT`

SOCKET is an inherited file descriptor, a Unix socket that keeps messages apart. WHAT is JSON: the
names of "libraries" to import, then the "card" of the model to load, or null. A message is

- the request of a worker (see `worker.py`), with four file descriptors: its stdin, stdout and
  stderr, and a pipe to which its process id is written and, when it has ended, its exit code (a
  signal's number, negative), a line each; or
- another WHAT, with two: the SOCKET of a server for it, and such a pipe. That server is a fork,
  which has what is imported here.

Where a package or a model has started threads, which would not live on in a fork, nothing is forked
and this process ends. It ends when the socket is closed, and its workers with it. For a CPU alone:
CUDA does not survive a fork.
"""

import json
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # So that `ingest` is imported as a package.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from ingest import worker
from ingest.families import Model, part

# Threads that see to it themselves that they live on in a fork: of Arrow's allocator.
SAFE_THREADS = {"jemalloc_bg_thd"}


def may_fork() -> bool:
    """Whether no package has started a thread."""
    _main, *others = sorted(Path("/proc/self/task").iterdir(), key=lambda task: int(task.name))
    return {(task / "comm").read_text().strip() for task in others} <= SAFE_THREADS


def prepare(what: dict[str, Any]) -> Model | None:
    """Imports, and loads a model on the CPU; of what cannot be done each worker will tell."""
    for name in what["libraries"]:
        with suppress(Exception):
            import_module(name)
    with suppress(Exception):
        if what["card"] is not None:
            adapter = part(what["card"], "adapter")
            if may_fork():
                if "tqdm" in sys.modules:  # its bars, which nobody sees, start a thread
                    sys.modules["tqdm"].tqdm.monitor_interval = 0
                model: Model = adapter.load(what["card"], "cpu")
                return model
    return None


def serve(control: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Forks until the socket is closed. In the server None; in a fork what was asked for.

    With it come the file descriptors that are the fork's.
    """
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
                    for fd in (said, *ends, *(pipe for _, pipe in ends.values())):
                        os.close(fd)
                    control.close()
                    return json.loads(message), streams
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
    asked, fds = json.loads(sys.argv[2]), [int(sys.argv[1])]
    while "libraries" in asked:  # this process is to be a server
        model = prepare(asked)
        server = os.getpid()
        found = serve(socket.socket(fileno=fds[0])) if may_fork() else None
        if found is None:
            os._exit(0)
        asked, fds = found
    for target, stream in enumerate(fds):
        os.dup2(stream, target)
        os.close(stream)
    worker.main(asked, server, model)


if __name__ == "__main__":
    main()
