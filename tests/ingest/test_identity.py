"""The identity of random weights: the seed's, whatever the processor."""

from dataclasses import replace

import numpy as np
import pytest

from platonic_store import errors
from platonic_store.jobs.runs import register_model
from platonic_store.runtimes import cards
from platonic_store.store import Store

from ingest import families  # isort: skip


def test_last_bits_do_not_count_and_signs_do():
    torch = pytest.importorskip("torch")
    drawn = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    other = torch.from_numpy(np.nextafter(drawn.numpy(), np.float32(9)))  # another processor's
    assert not torch.equal(drawn, other)
    one = families.weights_sha256({"w": drawn}, {"w": drawn, "buffer": drawn})
    assert one == families.weights_sha256({"w": other})
    assert one != families.weights_sha256({"w": -drawn})
    assert one != families.weights_sha256({"w": drawn.reshape(3, 50)})
    assert families.former_sha256(one) != one
    assert families.former_sha256("of a file") is None


def test_a_store_knows_its_random_weights_by_their_former_name(tmp_path):
    """An older store resumes, and has the present name from then on."""
    store = Store.open(tmp_path / "its.store")
    card = cards.resolve("control:random:sevennet-0")
    older = {"checkpoint_sha256": "a" * 64}
    now = {"checkpoint_sha256": "b" * 64, "former_sha256": "a" * 64}
    elsewhere = {"checkpoint_sha256": "b" * 64, "former_sha256": "c" * 64}
    with store._writing("identities", create=True) as writer:
        register_model(writer, card, older)
        with pytest.raises(errors.CheckpointMismatch):
            register_model(writer, card, elsewhere)
        register_model(writer, card, now)
        register_model(writer, card, elsewhere)


def test_two_forms_of_a_checkpoint_are_one_model(tmp_path):
    files = {"published": {"x.nqx": "a" * 64}, "converted": {"x.pt": "b" * 64}}
    card = replace(cards.resolve("nequix-mp-1"), checksums=files)
    store = Store.open(tmp_path / "its.store")
    with store._writing("forms", create=True) as writer:
        register_model(writer, card, {"checkpoint_sha256": "a" * 64})
        register_model(writer, card, {"checkpoint_sha256": "b" * 64})
        with pytest.raises(errors.CheckpointMismatch):
            register_model(writer, card, {"checkpoint_sha256": "c" * 64})


def test_a_package_that_loads_another_file_by_the_same_name_is_refused(tmp_path, monkeypatch):
    """`mace_mp()` once changed its default: a card's name, its file and its SHA-256 are bound."""
    pytest.importorskip("sevenn")
    card = cards.resolve("sevennet-0").as_dict()
    adapter = families.part(card, "adapter")
    other = adapter.pretrained_name_to_path("7net-0_22May2024")
    monkeypatch.setattr(adapter, "pretrained_name_to_path", lambda name: other)
    with pytest.raises(ValueError, match=r"refused to load .*the card of sevennet-0 names 7052cb"):
        adapter.load(card, "cpu")
