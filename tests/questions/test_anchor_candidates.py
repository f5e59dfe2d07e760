"""Anchors of a store: among how many atoms they are chosen, and random ones by their names."""

import numpy as np
import pytest

from platonic_store.geometry.anchors import random_rows
from platonic_store.jobs import anchors
from platonic_store.questions.shared.pairing import paired_embeddings
from platonic_store.storage import lookup


@pytest.fixture(scope="module")
def model(prototypes):
    snapshot = prototypes.snapshot()
    return snapshot, lookup.model_layer(snapshot, "sevennet-0")


@pytest.mark.parametrize("method", ["direct", "farthest"])
def test_they_are_chosen_among_the_atoms_that_were_drawn(model, monkeypatch, method):
    monkeypatch.setattr(anchors, "MOST_CANDIDATES", 150)
    found, _ = anchors.select_anchors(model[0], method, 20, model[1], 0)
    drawn = paired_embeddings(model[0], [model[1]], sample=150).keys
    names = ["structure_id", "site_index"]
    assert len(found.atoms.merge(drawn, on=names)) == found.k == 20


def test_random_ones_are_those_of_the_smallest_hashes(model):
    found, _ = anchors.select_anchors(model[0], "random", 30, model[1], 4)
    keys = paired_embeddings(model[0], [model[1]]).keys
    texts = (keys["structure_id"] + ":" + keys["site_index"].astype(str)).to_numpy()
    expected = keys.iloc[np.sort(random_rows(texts, 30, 4))].reset_index(drop=True)
    assert found.atoms[["structure_id", "site_index"]].equals(
        expected[["structure_id", "site_index"]]
    )
    default, _ = anchors.select_anchors(model[0], "random", None, model[1], 4)
    assert default.k == len(keys) // 3
