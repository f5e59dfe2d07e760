"""Projecting a model: in parts, some ahead of what is committed, and the same whatever they are."""

import shutil

import pytest
from store_fakes import content, crystals

from platonic_store.jobs import chunks, coordinates, project
from platonic_store.storage import commits
from platonic_store.store import Store

pytestmark = pytest.mark.usefixtures("fakes")


@pytest.fixture
def in_chunks(store):
    """A store whose embeddings came in six chunks, and anchors."""
    pool = list(crystals(30).items())
    for first in range(0, 30, 5):
        store.ingest(dict(pool[first : first + 5]), ["fake-a", "fake-b"])
    store.select_anchors("random", 40)
    return store


def test_coordinates_are_the_same_whatever_their_parts_and_groups(in_chunks, tmp_path, monkeypatch):
    other = Store.open(shutil.copytree(in_chunks.location.folder, tmp_path / "other.store"))
    whole = in_chunks.project(recipe="whitened")
    monkeypatch.setattr(chunks, "_GROUP_ROWS", 1)
    monkeypatch.setattr(coordinates, "AT_ONCE", 7)
    assert other.project(recipe="whitened") == whole
    assert content(other) == content(in_chunks)
    assert all(row.new_atoms == 0 for row in other.project(recipe="whitened"))


def test_what_comes_next_is_read_before_a_group_is_committed(in_chunks, monkeypatch):
    """But no more than the cores can compute meanwhile."""
    monkeypatch.setattr(chunks, "_GROUP_ROWS", 1)
    read, committed = [], []
    points, commit = project.side_points, commits.commit_projection

    def reading(*arguments):
        read.append(arguments)
        return points(*arguments)

    def committing(*arguments):
        commit(*arguments)
        committed.append(len(read))

    monkeypatch.setattr(project, "side_points", reading)
    monkeypatch.setattr(commits, "commit_projection", committing)
    monkeypatch.setattr("platonic_store.runtimes.threads.usable_cores", lambda: 2)
    in_chunks.project(["fake-a"], recipe="whitened")
    assert committed == [4, 5, 6, 6, 6, 6]
