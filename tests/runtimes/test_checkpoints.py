"""Weights: only what a card names, or the user trusts, is loaded; the rest is one clear line."""

import functools
import http.server
import json
import sys
import threading
from dataclasses import replace
from hashlib import sha256

import pytest

from platonic_store import errors
from platonic_store.cli.hints import command
from platonic_store.runtimes import cards, checkpoints, trust_store
from platonic_store.runtimes.preparation import prepare

from ingest import families  # isort: skip

WEIGHTS = b"these are weights"
SHA256 = sha256(WEIGHTS).hexdigest()
NOWHERE = "http://127.0.0.1:9/tiny.pt"  # nothing listens on the discard port


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "mine" / "tiny.pt"
    path.parent.mkdir()
    path.write_bytes(WEIGHTS)
    return path


@pytest.fixture
def server(weights):
    """The URL under which `weights` are served."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(weights.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_address[1]}/tiny.pt"
        serving.shutdown()


def ready(**arguments):
    ((card, _),) = prepare(["tiny-1"], python=sys.executable, **arguments)
    return card


def test_weights_that_the_card_names(family, weights):
    family(downloads=[NOWHERE], checkpoint_sha256=SHA256)
    assert ready(checkpoint=weights).checkpoint == str(weights)
    assert ready().checkpoint == str(weights), "where they lie is remembered"
    assert ready(checkpoint=weights.parent).checkpoint == str(weights), "its folder says it too"
    assert families.verified(weights, ready().as_dict()) == SHA256


def test_weights_that_nobody_vouches_for(family, weights):
    family(downloads=[NOWHERE])
    with pytest.raises(
        errors.CheckpointMismatch, match=f"names no SHA-256, .* has {SHA256}"
    ) as refusal:
        ready(checkpoint=weights)
    assert "\n" not in str(refusal.value)
    assert f"trust=['{SHA256}']" in str(refusal.value.hint[-1])
    with pytest.raises(errors.CheckpointMismatch):
        ready(checkpoint=weights, trust=["0" * 64])
    assert trust_store.read()["trusted_sha256"] == [], "only the SHA-256 of loaded weights is kept"
    assert ready(checkpoint=weights, trust=[SHA256]).checkpoint_sha256 == SHA256
    assert ready().checkpoint_sha256 == SHA256, "trust is remembered"
    weights.write_bytes(WEIGHTS[::-1])
    with pytest.raises(errors.CheckpointMismatch):
        ready()


def test_weights_with_another_hash_than_the_cards(family, weights):
    card = family(downloads=[NOWHERE], checkpoint_sha256="0" * 64)
    with pytest.raises(errors.CheckpointMismatch, match=r"card names the SHA-256 0{64}"):
        ready(checkpoint=weights)
    with pytest.raises(ValueError, match="refused to load"):
        families.verified(weights, card.as_dict())


def test_a_folder_of_weights(family, tmp_path):
    """Only the files that are published count, in whatever order, and a README does not."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model.json").write_text("{}")
    (folder / "state.pt").write_bytes(WEIGHTS)
    (folder / "README.md").write_text("Read me.")
    lines = f"{sha256(b'{}').hexdigest()}  model.json\n{SHA256}  state.pt\n"
    named = sha256(lines.encode()).hexdigest()
    urls = [f"{NOWHERE}/state.pt", f"{NOWHERE}/model.json?download=true"]
    card = family(downloads=urls, checkpoint_sha256=named)
    assert ready(checkpoint=folder).checkpoint == str(folder)
    assert families.verified(folder, card.as_dict()) == named
    (folder / "state.pt").unlink()
    with pytest.raises(errors.WeightsNotFound, match=r"state\.pt"):
        ready()


def test_weights_are_fetched_once_from_where_they_are_published(family, server, weights):
    family(downloads=[server], checkpoint_sha256=SHA256)
    fetched = ready().checkpoint
    assert fetched != str(weights)
    weights.unlink()
    assert ready().checkpoint == fetched


def test_weights_out_of_reach(family, home):
    family(downloads=[NOWHERE], checkpoint_sha256=SHA256)
    with pytest.raises(errors.WeightsNotFound) as error:
        ready()
    text = str(error.value)
    assert "\n" not in text
    for said in ("tiny.pt", SHA256, NOWHERE):
        assert said in text
    put, call = error.value.hint
    assert str(home.cache / "checkpoints") in put
    assert str(call) == "platonic_store.models.check('tiny-1', checkpoint=PATH)"
    assert command(call) == "platonic-store models check tiny-1 --checkpoint PATH"
    family(downloads=[NOWHERE])
    with pytest.raises(errors.WeightsNotFound, match="SHA-256 not known"):
        ready()


def test_weights_put_where_the_error_says(family, weights, home):
    card = family(downloads=[NOWHERE], checkpoint_sha256=SHA256)
    with pytest.raises(errors.WeightsNotFound) as error:
        ready()
    folder = error.value.hint[0].partition("put it into ")[2]
    assert folder.startswith(str(home.cache))
    checkpoints._folder(card).mkdir(parents=True, exist_ok=True)
    weights.rename(f"{folder}/tiny.pt")
    assert ready().checkpoint == f"{folder}/tiny.pt"


def test_whose_weights(family, weights):
    family(downloads=[NOWHERE], checkpoint_sha256=SHA256)
    models = ["tiny-1", "sevennet-0"]
    wanted = {"python": sys.executable}
    tiny, _ = prepare(models, checkpoint=weights, **wanted)
    assert tiny.card.checkpoint == str(weights), "the only one that lacks them"
    tiny, _ = prepare(models, checkpoint={"tiny-1": weights}, **wanted)
    assert tiny.card.checkpoint == str(weights)
    with pytest.raises(errors.InvalidQuery, match="not among the models"):
        prepare(models, checkpoint={"chgnet-0.3.0": weights}, **wanted)
    with pytest.raises(errors.InvalidQuery, match="ambiguous checkpoint"):
        prepare(["sevennet-0", "chgnet-0.3.0"], checkpoint=weights, **wanted)
    with pytest.raises(errors.WeightsNotFound):
        prepare(models, checkpoint={"tiny-1": weights / "none"}, **wanted)


def test_a_licence_that_restricts_use_is_accepted_by_name(family, weights):
    licence = {"weights": "Club Licence", "restriction": "For members only."}
    family(downloads=[NOWHERE], checkpoint_sha256=SHA256, license=licence)
    with pytest.raises(errors.LicenceNotAccepted, match="Club Licence: For members only") as error:
        ready(checkpoint=weights)
    assert [str(call) for call in error.value.hint] == [
        "platonic_store.models.show('tiny-1')",
        "platonic_store.models.accept('tiny-1')",
    ]
    trust_store.accept_licence("tiny-1")
    assert ready(checkpoint=weights).checkpoint
    assert trust_store.read()["accepted_licences"] == ["tiny-1"]


def test_random_weights_need_no_file_and_no_licence(family):
    card = family(
        downloads=[NOWHERE],
        architecture={"width": 3},
        license={"weights": "Club Licence", "restriction": "For members only."},
    )
    ((drawn, _),) = prepare(["control:random:tiny-1"], python=sys.executable)
    assert drawn == replace(cards.resolve("control:random:tiny-1"), checkpoint=None)
    assert drawn.architecture == card.architecture


def test_concurrent_writes_to_the_trust_store(home):
    threads = [threading.Thread(target=trust_store.trust, args=(f"{i:064d}",)) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    contents = json.loads((home.config / "trust_store.json").read_text())
    assert len(contents["trusted_sha256"]) == 20


def test_a_trust_store_that_cannot_be_read(home):
    trust_store.trust("0" * 64)
    (home.config / "trust_store.json").write_text("{")
    with pytest.raises(errors.UnreadableSource, match=r"^cannot read .*trust_store\.json"):
        trust_store.read()
