"""A real store for every test that reads: 288 crystals, SevenNet-0 and CHGNet 0.3.0, one space."""

import importlib.util
import shutil
from pathlib import Path

import pytest
from hypothesis import settings

from platonic_store.store import Store

# Tests are not timed: a busy machine is no failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

MODELS = ["sevennet-0", "chgnet-0.3.0"]


@pytest.fixture(scope="session")
def prototypes_path(tmp_path_factory) -> Path:
    """The folder of a store that no test may write to."""
    for package in ("sevenn", "chgnet"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install -e '.[models]'")
    path = tmp_path_factory.mktemp("session") / "prototypes.store"
    store = Store.open(path)
    store.ingest("builtin:aflow-prototypes", MODELS)
    store.select_anchors("direct", 100, model="sevennet-0")
    store.project(recipe="cosine")
    store.project()
    return path


@pytest.fixture(scope="session")
def prototypes(prototypes_path) -> Store:
    return Store.open(prototypes_path)


@pytest.fixture
def own_prototypes(prototypes_path, tmp_path) -> Store:
    """A copy of the store, to write to."""
    return Store.open(shutil.copytree(prototypes_path, tmp_path / "own.store"))
