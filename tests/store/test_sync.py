"""Durability: what a commit flushes, and what it leaves alone."""

import os
from pathlib import Path

import pytest
from store_fakes import crystals


@pytest.fixture
def flushed(monkeypatch) -> list[Path]:
    """The files and folders that were flushed, by name."""
    found: list[Path] = []
    fsync = os.fsync

    def noted(handle):
        found.append(Path(f"/proc/self/fd/{handle}").readlink())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "sync", lambda: pytest.fail("it flushes every disk of the machine"))
    return found


def test_all_that_was_written_is_flushed_and_nothing_else(store, flushed):
    store.ingest(crystals(6), ["fake-a"])
    store.ingest(crystals(8), ["fake-a"])
    store.delete(["c7"])
    store.doctor()
    tables = store.path / "vectors"
    written = {path for path in tables.rglob("*") if path.is_file()}
    assert written
    assert written <= set(flushed)
    assert {path.parent for path in written} <= set(flushed)
    assert store.catalog.published().parent in flushed
    assert all(path.is_relative_to(store.path) for path in flushed)
    files = [path for path in flushed if path in written]
    assert len(files) == len(set(files)), "a file that never changes is flushed once"


def test_what_a_dead_writer_left_is_flushed_before_it_is_committed(store, flushed):
    store.ingest(crystals(6), ["fake-a"])
    fresh = type(store).open(store.path)
    flushed.clear()
    fresh.vectors.sync("fake-a.1.atom")
    folder = store.path / "vectors" / "fake-a.1.atom.lance"
    assert {path for path in folder.rglob("*") if path.is_file()} <= set(flushed)
    flushed.clear()
    fresh.vectors.sync("fake-a.1.atom")
    assert [path for path in flushed if path.is_file()] == []
