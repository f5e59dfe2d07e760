"""Samples of the atoms that several models share."""

from platonic_store.geometry.anchors import random_rows
from platonic_store.questions.shared.pairing import paired_embeddings
from platonic_store.storage import lookup


def test_a_sample_is_not_the_random_anchors_of_the_same_seed(prototypes):
    with prototypes.snapshot() as snapshot:
        sides = [
            lookup.model_layer(snapshot, "sevennet-0"),
            lookup.model_layer(snapshot, "chgnet-0.3.0"),
        ]
        whole, sample = (
            paired_embeddings(snapshot, sides),
            paired_embeddings(snapshot, sides, sample=100, seed=0),
        )
    names, sampled = (
        (one.keys["structure_id"] + ":" + one.keys["site_index"].astype(str)).to_numpy(dtype=str)
        for one in (whole, sample)
    )
    anchors = names[random_rows(names, 100, 0)]
    assert len(set(sampled)) == 100
    assert len(set(sampled) & set(anchors)) < 30
