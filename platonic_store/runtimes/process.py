"""One worker process: the parent's end of the protocol of `ingest/worker.py`."""

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa

from platonic_store import resources
from platonic_store.runtimes.batching import SCHEMA
from platonic_store.runtimes.forkserver import Forked, Forkserver
from platonic_store.runtimes.variables import VARIABLES

PROTOCOL = 2
# What can be asked of a potential beside layers, by the columns of its answers.
OUTPUTS = {
    "energy": pa.field("energy", pa.float64()),
    "forces": pa.field("forces", pa.list_(pa.float32(), 3)),
}
_MESSAGE_START = b"\xff\xff\xff\xff"  # of every message in an Arrow IPC stream
_BROKEN = (OSError, EOFError, StopIteration, ValueError, KeyError, pa.ArrowException)


class WorkerDied(Exception):
    """The worker has ended, or sent invalid data. The message says how it ended."""


class NotForked(WorkerDied):
    """The forkserver ended before it had made the worker."""


class StartupError(Exception):
    """The worker runs, but cannot load the model. The message is its reason."""


class Embedded(NamedTuple):
    """The answer to one request: rows of the structures embedded, and why the others were not."""

    # id, site_index int32, layer_<i> fixed_size_list<float32>[dim], energy double (eV, of the
    # structure), forces fixed_size_list<float32>[3] (eV/Å); what was asked for.
    table: pa.RecordBatch
    rejected: list[tuple[str, str]]  # structure id, reason
    seconds_graph: float
    seconds_forward: float
    batch_atoms: int  # after this request
    seconds_waiting: float = 0.0  # of seconds_forward, for a GPU


class Worker:
    """A running worker. Methods raise `WorkerDied`; then only `kill` and `close` remain."""

    def __init__(
        self,
        python: Path,
        request: dict[str, Any],
        folder: str,
        server: Forkserver | None = None,
    ) -> None:
        """server: what forks it; else it is a new process of the interpreter."""
        self._log = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by `close`)
        self._reader: pa.RecordBatchStreamReader | None = None
        self._writer: pa.RecordBatchStreamWriter | None = None
        self._hung = ""
        stdin, ours_in = os.pipe()
        ours_out, stdout = os.pipe()
        self._stdin: IO[bytes] = os.fdopen(ours_in, "wb")
        self._stdout: IO[bytes] = os.fdopen(ours_out, "rb")
        try:
            self._process = self._begun(python, request, folder, server, stdin, stdout)
        except OSError as error:
            self._close_streams()
            if server is None:
                raise
            raise NotForked(str(error)) from error
        finally:
            os.close(stdin)
            os.close(stdout)

    def _begun(
        self,
        python: Path,
        request: dict[str, Any],
        folder: str,
        server: Forkserver | None,
        stdin: int,
        stdout: int,
    ) -> "subprocess.Popen[bytes] | Forked":
        if server is not None:
            return server.fork(request, stdin, stdout, self._log.fileno())
        script = resources.folder("ingest") / "worker.py"
        return subprocess.Popen(
            [python, script, json.dumps(request)],
            stdin=stdin,
            stdout=stdout,
            stderr=self._log,
            cwd=folder,  # for files that a library leaves behind
            env=os.environ | VARIABLES,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Within the block, the worker is killed after so many seconds: it hangs."""

        def kill() -> None:
            self._hung = f"no answer for {seconds:.0f} s"
            self.kill()

        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @property
    def is_hung(self) -> bool:
        """Whether it was killed because it hung."""
        return bool(self._hung)

    def handshake(self) -> dict[str, Any]:
        """The worker's identity. Blocks until the model is loaded. Raises StartupError."""
        try:
            self._expect_message()
            self._reader = pa.ipc.open_stream(self._stdout)
            metadata = self._reader.schema.metadata or {}
            if b"error" in metadata:
                raise StartupError(metadata[b"error"].decode())
            identity: dict[str, Any] = json.loads(metadata[b"identity"])
            if identity["protocol"] != PROTOCOL:
                raise StartupError(f"its protocol is {identity['protocol']}, not {PROTOCOL}")
            self._reader.read_next_batch()  # empty: it came with the schema
            self._writer = pa.ipc.new_stream(self._stdin, SCHEMA)
        except _BROKEN as error:
            if isinstance(self._process, Forked) and not self._process.pid:
                self.close()
                raise NotForked("the forkserver has ended") from error
            raise WorkerDied(self._cause(error)) from error
        return identity

    def send(self, structures: pa.RecordBatch) -> None:
        """Requests the embeddings of these structures."""
        assert self._writer is not None
        try:
            self._writer.write_batch(structures)
            self._stdin.flush()
        except _BROKEN as error:
            raise WorkerDied(self._cause(error)) from error

    def receive(self, structures: pa.RecordBatch) -> Embedded:
        """The answer to the oldest request, which was `structures`. Blocks until it arrives."""
        assert self._reader is not None
        try:
            self._expect_message()
            table, metadata = self._reader.read_next_batch_with_custom_metadata()
            report = json.loads(metadata[b"report"])
            rejected = [(name, reason) for name, reason in report["rejected"]]
            answered = set(table["id"].unique().to_pylist()) | {name for name, _ in rejected}
            if answered != set(structures["id"].to_pylist()):
                raise ValueError("the answer is to another request")
        except _BROKEN as error:
            raise WorkerDied(self._cause(error)) from error
        numbers = ("seconds_graph", "seconds_forward", "batch_atoms", "seconds_waiting")
        return Embedded(table, rejected, *(report[name] for name in numbers))

    def kill(self) -> None:
        """Ends the process at once; a thread that waits for its answer gets `WorkerDied`."""
        self._process.kill()

    def close(self) -> None:
        """Ends the process and closes its streams."""
        self._process.kill()
        self._process.wait()
        if isinstance(self._process, Forked):
            self._process.close()
        self._close_streams()

    def _close_streams(self) -> None:
        for stream in (self._stdin, self._stdout, self._log):
            try:
                stream.close()
            except BrokenPipeError:  # unsent bytes for a dead worker
                continue

    def _expect_message(self) -> None:
        """Blocks for the next message. Other data could be read as a length of gigabytes."""
        head = self._stdout.peek(4)[:4]  # type: ignore[attr-defined]
        if not head:
            raise EOFError
        if not _MESSAGE_START.startswith(head):
            raise ValueError("no Arrow message")

    def _cause(self, error: Exception) -> str:
        """How the worker ended. One that still runs has sent invalid data, and is killed."""
        try:
            # One that has closed its end is about to go, however busy the machine is.
            is_over = isinstance(error, EOFError | StopIteration)
            code = self._process.wait(timeout=30 if is_over else 1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return "invalid data on stdout"
        if self._hung:
            return self._hung
        if code is None:
            return "its forkserver has ended"
        if code < 0:
            return f"signal {-code}"
        last = next(self._last_lines(), "no output on stderr")
        return f"exit code {code}: {last[:200]}"

    def _last_lines(self) -> Iterator[str]:
        """The end of its stderr, last line first."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - 4096))
        lines = self._log.read().decode(errors="replace").splitlines()
        return (line.strip() for line in reversed(lines) if line.strip())
