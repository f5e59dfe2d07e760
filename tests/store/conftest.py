import pytest
import store_fakes

from platonic_store.runtimes import cards, workers
from platonic_store.store import Store


@pytest.fixture
def fakes(monkeypatch):
    """The fake models are the only ones."""
    monkeypatch.setattr(cards, "load_cards", cards.load_cards)
    monkeypatch.setattr(workers, "REQUEST_ATOMS", workers.REQUEST_ATOMS)
    store_fakes.know_fakes()


@pytest.fixture
def store(fakes, tmp_path) -> Store:
    return Store.open(tmp_path / "test.store")
