"""The steps of a writer, before each of which it can be made to die."""

import functools
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from platonic_store.storage import bulk, lance_tables, lease, manifest, writer
from platonic_store.storage.manifest import Manifest

# By the number of the argument that says where.
_FILE_STEPS = {1: ("link", "replace", "rename"), 0: ("unlink", "mkdir", "rmdir", "fsync")}
_LANCE_STEPS = {"LanceDataset": ("commit", "restore"), "DatasetOptimizer": ("compact_files",)}


def install(reached: Callable[[str], None], patch=setattr) -> None:
    """Call `reached` with what is about to be done, before every step that a store would notice.

    These are all changes of names in the folders of stores (`*.store`), every flush, and what
    Lance and DuckDB do on their own.
    """
    for which, names in _FILE_STEPS.items():
        for name in names:
            patch(os, name, _watched(getattr(os, name), name, which, reached))
    patch(shutil, "copyfile", _watched(shutil.copyfile, "copy", 1, reached))
    for kind, names in _LANCE_STEPS.items():
        owner = getattr(import_module("lance.dataset"), kind)
        for name in names:
            step = _announced(getattr(owner, name), f"Lance {name}", reached)
            patch(owner, name, staticmethod(step) if name == "commit" else step)
    for name in ("create", "write_fragments"):
        step = _announced(getattr(lance_tables, name), f"Lance {name}", reached)
        patch(lance_tables, name, step)
    for name in ("write", "merge", "without", "without_structures"):
        patch(bulk, name, _announced(getattr(bulk, name), f"bulk {name}", reached))
    publish_catalog = writer.Writer._publish_catalog
    patch(writer.Writer, "_publish_catalog", _announced(publish_catalog, "CHECKPOINT", reached))
    writing = writer.Writer.writing

    @contextmanager
    def watched(self):
        reached("begin a transaction")
        with writing(self) as connection:
            yield connection
            reached("commit a transaction")

    patch(writer.Writer, "writing", watched)


def _announced(function: Callable, what: str, reached: Callable[[str], None]) -> Callable:
    @functools.wraps(function)
    def wrapped(*arguments, **options):
        reached(what)
        return function(*arguments, **options)

    return wrapped


def _watched(function: Callable, what: str, which: int, reached: Callable[[str], None]) -> Callable:
    @functools.wraps(function)
    def wrapped(*arguments, **options):
        if place := _place(arguments[which], options.get("dir_fd")):
            reached(f"{what} {place}")
        return function(*arguments, **options)

    return wrapped


def _place(target: Any, folder: int | None) -> str | None:
    """The folder of a store that a path or a descriptor lies in, None outside of stores."""
    path = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else Path(target)
    if folder is not None:
        path = Path(f"/proc/self/fd/{folder}").readlink() / path
    for depth, part in enumerate(path.parts):
        if part.endswith(".store"):
            inside = path.parts[depth + 1 :]
            if not inside:
                return "store"
            is_named = inside[0] in ("manifests", "lease", "retired", "pins")
            kind = inside[-1] if inside[-1] in ("newest.json", "clock") else ""
            folders = inside[:1] if is_named else inside[: 2 if inside[0] == "rows" else 1]
            return "/".join((*folders, *([kind] if kind else [])))
    return None


class Killed(BaseException):
    """Nothing in the program expects it."""


class Deadly:
    """Kills a writer in this process before a step: it does nothing more, and is nobody's lease.

    `published` is the newest manifest whose creation was acknowledged.
    """

    def __init__(self, patch):
        self.steps: list[str] = []
        self.published: Manifest | None = None
        self._fatal, self._is_dead, self._lives = ("", 0), False, 0
        install(self._reached, patch)
        create = manifest.create
        patch(manifest, "create", lambda *given: self._noted(create(*given), given[1]))
        patch(lease, "_started", lambda _: f"in life {self._lives}")

    def _noted(self, is_created: bool, made: Manifest) -> bool:
        self.published = made
        return is_created

    def _reached(self, what: str) -> None:
        if threading.current_thread() is not threading.main_thread():  # it renews the lease
            if self._is_dead:
                raise SystemExit
        elif self._is_dead:
            raise Killed
        else:
            self.steps.append(what)
            if (what, self.steps.count(what)) == self._fatal:
                self._is_dead = True
                raise Killed

    def kills(self, job: Callable[[], object], what: str = "", count: int = 0) -> bool:
        """Begin a job, and kill it the `count`th time that it comes to a step; whether it came."""
        self.steps.clear()
        self._fatal, self._is_dead, self.published = (what, count), False, None
        self._lives += 1
        try:
            job()
        except Killed:
            return True
        finally:
            self._is_dead = False
            self._lives += 1
        return False
