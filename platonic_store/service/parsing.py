"""Reads structures that strangers send, away from the service: `python -m …parsing SETTINGS`.

A request is a line of JSON (`format`, `is_gzip`, `nbytes`, `most` structures) and the file's bytes.
The answer is a line of JSON (`error`, or `nbytes` of an Arrow stream of structures, and `rejected`:
names and reasons, where more than one may come). Each request is answered by
a process of its own, forked when all is imported, with limits of memory, time and files; it may
crash. SETTINGS is JSON: seconds, memory (bytes), atoms.
"""

import gc
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

FILE_NAMES: Final = {
    "cif": "upload.cif",
    "poscar": "POSCAR",
    "extxyz": "upload.xyz",
    "json": "upload.json",
}
# What pymatgen's decoder may import: it would import anything that a document names.
_CLASSES: Final = {
    ("pymatgen.core.structure", "Structure"),
    ("pymatgen.core.sites", "PeriodicSite"),
    ("pymatgen.core.lattice", "Lattice"),
    ("pymatgen.core.composition", "Composition"),
    ("pymatgen.core.periodic_table", "Element"),
    ("pymatgen.core.periodic_table", "Species"),
    ("pymatgen.entries.computed_entries", "ComputedStructureEntry"),
    ("pymatgen.entries.computed_entries", "ConstantEnergyAdjustment"),
    ("pymatgen.entries.computed_entries", "ManualEnergyAdjustment"),
    ("pymatgen.entries.computed_entries", "CompositionEnergyAdjustment"),
    ("pymatgen.entries.computed_entries", "TemperatureEnergyAdjustment"),
}
_READERS: Final = (
    "ase.geometry",
    "ase.io.extxyz",
    "ase.io.vasp",
    "pymatgen.entries.computed_entries",
    "platonic_store.structures.cif",
    "platonic_store.structures.extxyz",
    "platonic_store.structures.json",
    "platonic_store.structures.objects",
    "platonic_store.structures.poscar",
)
_MARGIN: Final = 4 << 20  # bytes that a reader may write, beyond what it was given


class Refused(ValueError):
    """What was sent cannot be used."""


def main() -> None:
    """Answer until stdin ends, which it does with the service."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = json.loads(sys.argv[1])
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _import_readers()
    sink.write(b"{}\n")
    sink.flush()
    while line := source.readline():
        request = json.loads(line)
        body = source.read(request["nbytes"])
        folder = tempfile.mkdtemp(prefix="platonic-store-upload-")
        try:
            answer = _in_child(request, body, settings, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        sink.write(answer)
        sink.flush()


def _import_readers() -> None:
    """All that a reader imports, so that a child has it at once and may open no more than it."""
    for name in _READERS:
        importlib.import_module(name)
    from platonic_store.structures.assemble import assemble
    from platonic_store.structures.records import crystal

    # What is computed at the first use is then computed in no child.
    assemble([crystal(None, [11], [[0, 0, 0]], [[5, 0, 0], [0, 5, 0], [0, 0, 5]], [1] * 3, {})], [])
    gc.freeze()


def _in_child(request: dict[str, Any], body: bytes, settings: dict[str, Any], folder: str) -> bytes:
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        with os.fdopen(theirs, "wb") as out:
            out.write(_answer(request, body, settings, folder))
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        answer = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0:
        return answer
    late = status in (-signal.SIGALRM, -signal.SIGXCPU)
    seconds = settings["seconds"]
    return _error(
        f"it takes longer than {seconds:g} s to read" if late else "its reader died of it"
    )


def _answer(request: dict[str, Any], body: bytes, settings: dict[str, Any], folder: str) -> bytes:
    try:
        _limit(settings, len(body))
        os.chdir(folder)
        _write(request, body)
        if request["most"] == 1:
            return _framed(_read_one(request, settings["atoms"]), [])
        return _framed(*_read_many(request, settings["atoms"]))
    except Refused as error:
        return _error(str(error))
    except MemoryError:
        return _error("it takes more memory to read than is allowed")
    except RecursionError:
        return _error("it is nested too deeply")
    except BaseException as error:
        return _error(" ".join(str(error).split())[:300] or type(error).__name__)


def _limit(settings: dict[str, Any], nbytes: int) -> None:
    seconds = max(1, round(settings["seconds"]))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    limits = {
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: nbytes + _MARGIN,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 64,
    }
    with suppress(OSError):  # not on macOS
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + settings["memory"]
    for name, value in limits.items():
        with suppress(ValueError, OSError):
            resource.setrlimit(name, (value, value))


def _write(request: dict[str, Any], body: bytes) -> None:
    """What was sent as a file of its format."""
    name = _file_name(request)
    if request["format"] == "json":
        document = json.loads(_unzipped(body) if request["is_gzip"] else body)
        name.write_text(json.dumps(_harmless(document)))
    else:
        name.write_bytes(body)


def _file_name(request: dict[str, Any]) -> Path:
    name = FILE_NAMES[request["format"]]
    is_zipped = request["is_gzip"] and request["format"] != "json"
    return Path(name + ".gz" if is_zipped else name)


def _read_one(request: dict[str, Any], most_atoms: int) -> Any:
    from platonic_store.structures import Rejected
    from platonic_store.structures.assemble import assemble
    from platonic_store.structures.sources import records

    found = records(_file_name(request), request["format"])
    one = next(found)
    if isinstance(one, Rejected):
        raise Refused(f"{one.record}: {one.reason}")
    if len(one.numbers) > most_atoms:
        raise Refused(f"it has {len(one.numbers):,} atoms, and may have {most_atoms:,}")
    if next(found, None) is not None:
        raise Refused("it holds several structures: send one")
    return assemble([one._replace(properties={})], []).structures


def _read_many(request: dict[str, Any], most_atoms: int) -> tuple[Any, list[tuple[str, str]]]:
    """Structures, and the names of records that cannot be used, with reasons."""
    from platonic_store.structures import Rejected
    from platonic_store.structures.assemble import assemble
    from platonic_store.structures.sources import records

    crystals, rejected = [], []
    for number, one in enumerate(records(_file_name(request), request["format"]), 1):
        if number > request["most"]:
            raise Refused(f"it holds more than {request['most']} structures")
        if isinstance(one, Rejected):
            rejected.append((one.id or one.record, one.reason))
        elif len(one.numbers) > most_atoms:
            why = f"it has {len(one.numbers):,} atoms, and may have {most_atoms:,}"
            rejected.append((one.id or f"record {number}", why))
        else:
            crystals.append(one._replace(properties={}))
    if not crystals:
        raise Refused(f"{rejected[0][0]}: {rejected[0][1]}" if rejected else "it is empty")
    return assemble(crystals, []).structures, rejected


def _unzipped(body: bytes) -> bytes:
    import gzip

    return gzip.decompress(body)


def _harmless(document: Any) -> Any:
    """The document, without what would make pymatgen's decoder import other things."""
    if isinstance(document, list):
        return [_harmless(item) for item in document]
    if not isinstance(document, dict):
        return document
    known = (document.get("@module"), document.get("@class"))
    is_known = all(isinstance(one, str) for one in known) and known in _CLASSES
    return {
        key: _harmless(value)
        for key, value in document.items()
        if key not in ("@module", "@callable", "@bound") or (key == "@module" and is_known)
    }


def _framed(structures: Any, rejected: list[tuple[str, str]]) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, structures.schema) as writer:
        writer.write_batch(structures)
    content: bytes = sink.getvalue().to_pybytes()
    head = {"nbytes": len(content), "rejected": rejected}
    return json.dumps(head).encode() + b"\n" + content


def _error(text: str) -> bytes:
    return json.dumps({"error": text, "nbytes": 0}).encode() + b"\n"


def read_answer(source: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """The service's end: what was said, and the Arrow stream. Raises: EOFError."""
    line = source.readline(1 << 20)
    if not line.endswith(b"\n"):
        raise EOFError
    head: dict[str, Any] = json.loads(line)
    return head, source.read(head.get("nbytes", 0))


if __name__ == "__main__":
    main()
