"""What was sent, as one structure: read by `parsing`, in a process that may die of it."""

import json
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import pyarrow as pa

from platonic_store.errors import UnreadableSource
from platonic_store.runtimes.variables import VARIABLES
from platonic_store.service.parsing import FILE_NAMES, read_answer
from platonic_store.service.settings import Settings
from platonic_store.structures import STRUCTURE_SCHEMA

CONTENT_TYPES: Final = {
    "chemical/x-cif": "cif",
    "chemical/x-vasp": "poscar",
    "chemical/x-poscar": "poscar",
    "chemical/x-xyz": "extxyz",
    "chemical/x-extxyz": "extxyz",
    "application/json": "json",
    "application/vnd.api+json": "json",
}
_NAMES: Final = (
    (r".*\.cif", "cif"),
    (r"(poscar|contcar).*|.*\.(vasp|poscar)", "poscar"),
    (r".*\.(ext)?xyz", "extxyz"),
    (r".*\.json", "json"),
)
_GZIP: Final = b"\x1f\x8b"
_HEAD: Final = 64 << 10  # bytes in which a format shows itself


def format_of(body: bytes, content_type: str = "", name: str = "") -> str:
    """One of `parsing.FILE_NAMES`: by content type, by the file's name, else by what is in it."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in CONTENT_TYPES:
        return CONTENT_TYPES[kind]
    bare = re.sub(r"\.gz$", "", name.lower())
    for pattern, format in _NAMES:
        if re.fullmatch(pattern, bare):
            return format
    text = body[:_HEAD].decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if text.startswith(("{", "[")):
        return "json"
    if re.search(r"^\s*(data_|loop_|_cell_length_a)", text, re.MULTILINE | re.IGNORECASE):
        return "cif"
    if re.match(r"\d+\s*(\n|\r|$)", text):
        return "extxyz"
    return "poscar"


class Parsed(NamedTuple):
    """Structures as rows of STRUCTURE_SCHEMA, and the names of others with why they are none."""

    structures: pa.RecordBatch
    rejected: list[tuple[str, str]]


class Parser:
    """A process that reads what strangers send, one after the other; another when it dies."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="parser")
        self._is_closed = False

    def start(self) -> None:
        """Have the process import what it needs, without waiting for it."""
        self._pool.submit(self._running)

    def read(self, body: bytes, content_type: str = "", name: str = "") -> pa.RecordBatch:
        """One row of STRUCTURE_SCHEMA. Blocks; requests come one after the other.

        Raises: UnreadableSource.
        """
        return self._asked(body, content_type, name, 1).structures

    def read_many(self, body: bytes, content_type: str = "", name: str = "") -> Parsed:
        """Rows of STRUCTURE_SCHEMA, and what could not be read. Raises: UnreadableSource."""
        return self._asked(body, content_type, name, self._settings.batch_structures)

    def _asked(self, body: bytes, content_type: str, name: str, most: int) -> Parsed:
        format = format_of(body, content_type, name)
        return self._pool.submit(self._read, body, format, most).result()

    def _read(self, body: bytes, format: str, most: int) -> Parsed:
        if not body.strip():
            raise _unreadable("there is nothing in it")
        is_gzip = body.startswith(_GZIP)
        try:
            process = self._running()
        except EOFError as error:
            raise _unreadable("its reader does not start") from error
        assert process.stdin is not None
        assert process.stdout is not None
        # A child that outlives its own alarm, as the parent of it does, is not waited for.
        alarm = threading.Timer(self._settings.upload_seconds + 5, process.kill)
        alarm.start()
        try:
            request = {"format": format, "is_gzip": is_gzip, "nbytes": len(body), "most": most}
            process.stdin.write(json.dumps(request).encode() + b"\n" + body)
            process.stdin.flush()
            head, content = read_answer(process.stdout)
            if "error" in head:
                raise _unreadable(f"as {format}: {head['error']}")
            rejected = [(str(name), str(reason)) for name, reason in head["rejected"]]
            return Parsed(_checked(content, most), rejected)
        except (OSError, EOFError, ValueError, KeyError, pa.ArrowException) as error:
            if isinstance(error, UnreadableSource):
                raise
            self._end()
            raise _unreadable("its reader died of it") from error
        finally:
            alarm.cancel()

    def _running(self) -> "subprocess.Popen[bytes]":
        with self._lock:
            if self._is_closed:
                raise _unreadable("the service is ending")
            process = self._process
            is_new = process is None or process.poll() is not None
            if process is not None and is_new:
                end(process)
            if process is None or is_new:
                process = self._process = _start(self._settings)
        if is_new:
            assert process.stdout is not None
            read_answer(process.stdout)  # when it has imported everything
        return process

    def _end(self) -> None:
        with self._lock:
            if self._process is not None:
                end(self._process)
                self._process = None

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._is_closed = True
        self._end()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _start(settings: Settings) -> "subprocess.Popen[bytes]":
    given = {
        "seconds": settings.upload_seconds,
        "memory": settings.upload_memory,
        "atoms": settings.upload_atoms,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "platonic_store.service.parsing", json.dumps(given)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | VARIABLES,
    )


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and close its streams."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            try:
                stream.close()
            except BrokenPipeError:
                continue


def _checked(content: bytes, most: int) -> pa.RecordBatch:
    """The batch, if it is what a parser sends. Raises: ValueError."""
    batches = list(pa.ipc.open_stream(content))
    if len(batches) != 1 or batches[0].schema != STRUCTURE_SCHEMA:
        raise ValueError("no structures")
    if not 1 <= batches[0].num_rows <= most:
        raise ValueError(f"{batches[0].num_rows} structures")
    batches[0].validate(full=True)
    return batches[0]


def _unreadable(why: str) -> UnreadableSource:
    known = ", ".join(FILE_NAMES)
    return UnreadableSource(
        f"the structure cannot be read: {why}",
        f"send it as {known}, and its format by Content-Type or `name`",
    )
