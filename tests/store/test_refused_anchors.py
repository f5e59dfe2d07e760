"""Anchors where models refuse structures, and what becomes of a model that lacks some."""

from dataclasses import replace

import pytest
import store_fakes
from store_fakes import crystals

from platonic_store.errors import AnchorsNotFound, worded
from platonic_store.runtimes import cards
from platonic_store.store import Store

POOL = crystals(40)


@pytest.fixture
def refuses(monkeypatch, fakes):
    """Make fake-b know all elements but some."""

    def but(*numbers: int) -> None:
        known = cards.load_cards()
        of_b = tuple(number for number in known["fake-b"].elements if number not in numbers)
        fakes = {**known, "fake-b": replace(known["fake-b"], elements=of_b)}
        monkeypatch.setattr(cards, "load_cards", lambda: fakes)

    return but


@pytest.mark.parametrize("method", ["random", "farthest"])
def test_no_anchor_is_in_what_a_model_refuses(refuses, tmp_path, method):
    first = next(iter(POOL.values())).numbers[0]
    refuses(first)
    store = Store.open(tmp_path / "store")
    store.ingest(POOL, store_fakes.MODELS)
    refused = set(store.sql("SELECT structure_id FROM quarantine")["structure_id"])
    assert 0 < len(refused) < len(POOL) / 2
    chosen = store.select_anchors(method, 60, model="fake-a")
    assert not refused & set(chosen.atoms["structure_id"])
    assert {one.model for one in store.project()} == set(store_fakes.MODELS)


def test_a_model_that_refuses_most_is_left_out(refuses, tmp_path, capsys):
    refuses(*range(40, 80))
    store = Store.open(tmp_path / "store")
    store.ingest(POOL, store_fakes.MODELS)
    refused = store.sql("SELECT structure_id FROM quarantine")["structure_id"]
    assert len(POOL) / 2 < refused.nunique() < len(POOL)
    chosen = store.select_anchors(k=60)
    assert chosen.atoms["structure_id"].nunique() > 10
    assert [one.model for one in store.project()] == ["fake-a"]
    assert "left out: fake-b@1 refuses" in capsys.readouterr().err
    with pytest.raises(AnchorsNotFound, match=r"fake-b@1 refuses .* of the 60 anchors") as error:
        store.project(["fake-b", "fake-a"])
    assert "select_anchors" in worded(error.value.hint)


def test_one_that_may_still_embed_them_is_told_to(fakes, tmp_path):
    store = Store.open(tmp_path / "store")
    some = dict(list(POOL.items())[:10])
    store.ingest(some, ["fake-b"])
    store.ingest(POOL, ["fake-a"])
    store.select_anchors(k=60, model="fake-a")
    with pytest.raises(AnchorsNotFound, match=r"fake-b@1 has not embedded .* of the 60") as error:
        store.project(["fake-b"])
    assert "ingest" in worded(error.value.hint)
    store.ingest(None, ["fake-b"])
    assert {one.model for one in store.project()} == set(store_fakes.MODELS)
