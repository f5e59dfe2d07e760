"""A real store for every test that reads: 288 crystals, SevenNet-0 and CHGNet 0.3.0, one space,
forces of some small crystals.

It is made once, under a lock, and kept in pytest's cache until something that it depends on
changes: the code that writes stores, the models' packages, or these tests' own files.
"""

import hashlib
import importlib.metadata
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from ase import Atoms
from filelock import FileLock
from stored import crystals_of

from platonic_store.store import Store

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".pytest_cache" / "d" / "prototypes"  # `pytest --cache-clear` empties it
MODELS = ["sevennet-0", "chgnet-0.3.0"]
# Rooms of the package that only read a store, or write elsewhere.
READERS = (
    "annotation",
    "cli",
    "explorer",
    "exports",
    "plots",
    "questions",
    "report",
    "service",
    "sql",
)


def stored() -> Path:
    """The folder of two stores, `embedded.store` and `prototypes.store` (which also has anchors,
    spaces and a map), made if they are not there as this code would make them."""
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / fingerprint()
    with FileLock(CACHE / "lock"):
        if not folder.exists():
            for outdated in CACHE.glob("*/"):
                shutil.rmtree(outdated)
            partial = CACHE / "partial"
            _make(partial)
            partial.rename(folder)
    return folder


def _make(folder: Path) -> None:
    Store.open(folder / "embedded.store").ingest("builtin:aflow-prototypes", MODELS)
    store = Store.open(shutil.copytree(folder / "embedded.store", folder / "prototypes.store"))
    store.select_anchors("direct", 100, model="sevennet-0")
    store.project(recipe="cosine")
    store.project()
    store.map()
    store.ingest(small_crystals(store), MODELS, outputs="energy,forces")


def small_crystals(store: Store) -> dict[str, Atoms]:
    """Forty crystals of at most six atoms, by their ids."""
    return crystals_of(store, "WHERE len(numbers) BETWEEN 2 AND 6 ORDER BY structure_id LIMIT 40")


def fingerprint() -> str:
    """The hash of all that the stores depend on."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(_sources()):
        digest.update(f"{path.relative_to(ROOT)}\n".encode())
        digest.update(path.read_bytes())
    for package in sorted(
        f"{one.name}=={one.version}" for one in importlib.metadata.distributions()
    ):
        digest.update(f"{package}\n".encode())
    return digest.hexdigest()[:16]


def _sources() -> Iterator[Path]:
    yield Path(__file__)
    yield Path(__file__).with_name("stored.py")
    for folder in ("platonic_store", "ingest", "migrations"):
        for path in (ROOT / folder).rglob("*"):
            is_reader = path.relative_to(ROOT).parts[1] in READERS
            if path.is_file() and path.suffix != ".pyc" and not is_reader:
                yield path
