import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in a worker: torch is not alone on its core

import prototypes as made
import pytest
from hypothesis import settings

from platonic_store.runtimes import cards
from platonic_store.runtimes.cores import usable_cores
from platonic_store.store import Store

# Tests are not timed: a busy machine is no failure.
settings.register_profile("untimed", deadline=None, max_examples=50)
settings.load_profile("untimed")


def pytest_addoption(parser):
    parser.addoption("--family", help="of the tests of models, those of one family alone")


def pytest_configure(config):
    """One core for each of xdist's workers, so that one of them starts one process of a model."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


def pytest_xdist_auto_num_workers():
    """xdist counts the machine's cores, of which a container may use fewer."""
    return usable_cores()


LARGE = ("matris", "nequip")  # their kits take 9 and 13 GB: one after the other


@pytest.hookimpl(tryfirst=True)  # before xdist looks at groups
def pytest_collection_modifyitems(config, items):
    """The tests of one family run on one worker, and `--family` leaves those of one.

    The longest test comes first, so that it is not the last to end.
    """
    items.sort(key=lambda item: item.path.name != "test_readme.py")
    wanted = config.getoption("family")
    families = {card.family for card in cards.load_cards().values()}
    if wanted and wanted not in families:
        raise pytest.UsageError(f"no family {wanted} (there are: {', '.join(sorted(families))})")
    others = []
    for item in items:
        if item.get_closest_marker("models"):
            family = family_of(item)
            item.add_marker(pytest.mark.xdist_group("large" if family in LARGE else family))
            others += [item] if wanted not in (None, family) else []
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


def family_of(item) -> str:
    """The family that a test of models runs: its mark says so, or the parameter `name`."""
    if named := item.get_closest_marker("models").args:
        return named[0]
    callspec = getattr(item, "callspec", None)
    name = callspec and callspec.params.get("name")
    return cards.resolve(name).family if name in cards.load_cards() else "several"


@pytest.fixture(scope="session")
def stores() -> Path:
    """The folder of the stores that `prototypes.py` makes; no test may write to them."""
    for package in ("sevenn", "chgnet"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install -e '.[models]'")
    return made.stored()


@pytest.fixture(scope="session")
def prototypes_path(stores) -> Path:
    """The folder of a store that no test may write to."""
    return stores / "prototypes.store"


@pytest.fixture(scope="session")
def prototypes(prototypes_path) -> Store:
    # By the name of its folder, so that a command that runs beside it means the same.
    return Store.open(prototypes_path, references={"prototypes.store": str(prototypes_path)})


@pytest.fixture(scope="session")
def scored(prototypes_path, tmp_path_factory) -> Store:
    """The prototypes with scores; no test may write to them."""
    path = tmp_path_factory.mktemp("scored") / "crystals.store"
    store = Store.open(shutil.copytree(prototypes_path, path))
    store.score()
    return store


@pytest.fixture
def own_prototypes(prototypes_path, tmp_path) -> Store:
    """A copy of the store, to write to."""
    return Store.open(shutil.copytree(prototypes_path, tmp_path / "own.store"))


@pytest.fixture(scope="session")
def service(prototypes) -> Iterator[str]:
    """The URL of a service of the store, which answers SQL too."""
    from serving import serving

    from platonic_store.service.app import create_app
    from platonic_store.service.settings import Settings

    with serving(create_app(prototypes, Settings(sql=True, models=()))) as url:
        yield url
