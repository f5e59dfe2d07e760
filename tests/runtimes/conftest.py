"""A cache and a configuration of the test's own, and a family that needs no network."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from platonic_store.runtimes import cards

FAKE = Path(__file__).with_name("fake")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """cache, config: folders of this test alone."""
    folders = SimpleNamespace(cache=tmp_path / "cache", config=tmp_path / "config")
    monkeypatch.setenv("PLATONIC_STORE_CACHE", str(folders.cache))
    monkeypatch.setenv("PLATONIC_STORE_CONFIG", str(folders.config))
    cards.load_cards.cache_clear()
    yield folders
    cards.load_cards.cache_clear()


@pytest.fixture
def family(home):
    """Makes a family `tiny` with one model, `tiny-1`, as a user would: a folder.

    Keywords are fields of the card, `environment` the fields of environment.yaml.
    """

    def make(environment: dict | None = None, **fields) -> cards.Card:
        folder = home.config / "families" / "tiny"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "cards").mkdir(parents=True)
        shutil.copy(FAKE / "adapter.py", folder)
        needs = {"requires": ["numpy"], "size_gb": 0.3} | (environment or {})
        (folder / "environment.yaml").write_text(json.dumps(needs))
        card = {
            "name": "tiny-1",
            "kind": "trained",
            "family": "tiny",
            "loader": "well",
            "elements": list(range(1, 95)),
            "cutoff": 5.0,
            "equivariant": False,
            "layers": [{"index": 0, "dim": 3}, {"index": 1, "dim": 3}],
            "default_layer": 1,
            "default_layer_reason": "It is the last.",
        }
        (folder / "cards" / "tiny-1.yaml").write_text(yaml.safe_dump(card | fields))
        cards.load_cards.cache_clear()
        return cards.resolve("tiny-1")

    return make
