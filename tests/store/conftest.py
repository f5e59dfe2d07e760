import pytest
import store_fakes
from s3 import bucket, moto_address, web  # noqa: F401  (fixtures)

from platonic_store.store import Store


@pytest.fixture
def fakes(monkeypatch):
    """The fake models are the only ones, and run in this process."""
    store_fakes.know_fakes(in_process=True, patch=monkeypatch.setattr)


@pytest.fixture
def store(fakes, tmp_path) -> Store:
    return Store.open(tmp_path / "test.store")
