"""A checkpoint of the user's own: a card in one call, then a model like any other."""

from hashlib import sha256

import pytest
import yaml

from platonic_store import errors, models
from platonic_store.runtimes import cards
from platonic_store.runtimes.preparation import prepare
from platonic_store.store import Store


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "tuned.pt"
    path.write_bytes(b"fine-tuned")
    return path


def test_a_fine_tuned_checkpoint_beside_its_parent(family, weights, tmp_path, home):
    family(training_sets=["X"], doi="10.1/x", aliases=["well"])
    path = models.card(weights, "my-tiny", parent="well", training_sets=["Y"])
    assert path == home.config / "cards" / "my-tiny.yaml"
    card = cards.resolve("my-tiny")
    assert card.lineage == (cards.Ancestor("fine-tuned from", "tiny-1"),)
    assert card.training_sets == ("X", "Y")
    assert card.checkpoint_sha256 == sha256(b"fine-tuned").hexdigest()
    assert (card.doi, card.aliases) == (None, ())
    assert [layer.dim for layer in card.layers] == [3, 3]
    assert prepare(["my-tiny"])[0].card.checkpoint == str(weights), "it is known where it is"
    store = Store.open(tmp_path / "its.store")
    _, runs = store.ingest("builtin:aflow-prototypes", ["my-tiny", "tiny-1"])
    assert [run.structures for run in runs] == [287, 287]
    weights.write_bytes(b"another")
    with pytest.raises(errors.CheckpointMismatch, match="has") as changed:
        prepare(["my-tiny"])
    assert "another card" in changed.value.hint[0]


def test_a_head_can_be_named(family, weights):
    family(modality="omat")
    models.card(weights, "my-tiny", parent="tiny-1")
    models.card(weights, "my-other", parent="tiny-1", modality="Default")
    assert [cards.resolve(name).modality for name in ("my-tiny", "my-other")] == ["omat", "Default"]


def test_a_card_can_be_corrected_by_hand(family, weights):
    family()
    path = models.card(weights, "my-tiny", parent="tiny-1", relation="like")
    assert "lineage" not in path.read_text()
    fields = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(fields | {"training_sets": ["Z"]}))
    cards.load_cards.cache_clear()
    assert models.show("my-tiny")["training_sets"] == ["Z"]
    path.write_text(yaml.safe_dump(fields | {"family": "gone"}))
    cards.load_cards.cache_clear()
    with pytest.raises(errors.InvalidCard, match="there is no family gone"):
        cards.load_cards()


def test_what_cannot_be_carded_is_one_line(family, weights, home, tmp_path):
    family()
    with pytest.raises(errors.InvalidQuery, match="there is a model tiny-1 already"):
        models.card(weights, "tiny-1", parent="tiny-1")
    with pytest.raises(errors.InvalidQuery, match=r"there is no .*gone\.pt"):
        models.card(tmp_path / "gone.pt", "my-tiny", parent="tiny-1")
    with pytest.raises(errors.InvalidCard, match="does not match"):
        models.card(weights, "My Tiny", parent="tiny-1")
    with pytest.raises(errors.ModelNotFound):
        models.card(weights, "my-tiny", parent="tiny-2")
    family(loader="refuses")
    with pytest.raises(errors.WorkerFailed, match=r"no checkpoint that tiny can load: .*not here"):
        models.card(weights, "my-tiny", parent="tiny-1")
    assert not list(home.config.glob("cards/*"))


def test_every_form_of_the_same_weights_is_known(family, weights, tmp_path):
    """As published, in two files, and as its package converts them, in one."""
    folder = tmp_path / "published"
    folder.mkdir()
    files = {"a.json": b"{}", "b.pt": b"state"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    family(
        own_checkpoint=True,
        checksums={
            "published": {name: sha256(content).hexdigest() for name, content in files.items()},
            "converted": {"one.pt": sha256(weights.read_bytes()).hexdigest()},
        },
    )
    of_both = {prepare(["tiny-1"], checkpoint=path)[0].card.checkpoint_sha256
               for path in (folder, weights)}  # fmt: skip
    assert of_both == cards.resolve("tiny-1").known_sha256
    (folder / "b.pt").write_bytes(b"other")
    with pytest.raises(errors.CheckpointMismatch):
        prepare(["tiny-1"], checkpoint=folder)
