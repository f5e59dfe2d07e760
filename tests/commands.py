"""`platonic-store` in a process of its own, forked from one that has imported what it needs.

It does what the installed command does, without the seconds that its imports take. As a script it
is the process that forks: a line of JSON on stdin is what `become` takes, a line on stdout the exit
code.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@contextmanager
def server() -> Iterator[Run]:
    """A function that runs the command: `run(words, cwd=FOLDER, env=VARIABLES)`."""
    with (
        TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        streams = [Path(folder, "stdout"), Path(folder, "stderr")]

        def run(words: list[str], *, cwd: Path, env: dict[str, str]):
            assert process.stdin is not None
            assert process.stdout is not None
            request = {"words": words, "cwd": cwd, "env": env, "streams": streams}
            print(json.dumps(request, default=str), file=process.stdin, flush=True)
            code = int(process.stdout.readline())
            return subprocess.CompletedProcess(words, code, *(one.read_bytes() for one in streams))

        yield run


def become(words: list[str], cwd: str, env: dict[str, str], streams: list[str]) -> None:
    """Make this process what a shell would have started."""
    descriptors = [os.open(os.devnull, os.O_RDONLY)]
    descriptors += [os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for name in streams]
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["platonic-store", *words]


def exit_code(main: Callable[[], None]) -> int:
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def serve() -> None:
    os.environ.setdefault("LANCE_LOG", "error")  # as the library does before it imports it
    import lance  # noqa: F401

    import platonic_store.store  # noqa: F401
    from platonic_store.cli import main

    for line in sys.stdin:
        child = os.fork()
        if not child:
            become(**json.loads(line))
            code = exit_code(main)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # at once: it cannot join the threads that its parent had
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
