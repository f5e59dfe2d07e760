"""Samples of the atoms that several models share."""

import numpy as np
import pandas as pd

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


def test_a_sample_is_the_smallest_hashes_of_all_and_of_each_element(prototypes):
    with prototypes.snapshot() as snapshot:
        sides = [
            lookup.model_layer(snapshot, "sevennet-0"),
            lookup.model_layer(snapshot, "chgnet-0.3.0"),
        ]
        whole = paired_embeddings(snapshot, sides)
        some = paired_embeddings(snapshot, sides, sample=30, each_element=True, seed=3)
    index = pd.MultiIndex.from_frame(whole.keys[["structure_id", "site_index"]])
    rows = index.get_indexer(pd.MultiIndex.from_frame(some.keys[["structure_id", "site_index"]]))
    numbers = whole.keys["atomic_number"].to_numpy()
    names = "sample " + whole.keys["structure_id"] + ":" + whole.keys["site_index"].astype(str)
    expected = set(random_rows(names.to_numpy(dtype=object), 30, 3))
    for number in np.unique(numbers):
        of_it = np.flatnonzero(numbers == number)
        chosen = names.to_numpy(dtype=object)[of_it]
        expected |= set(of_it[random_rows(chosen, min(30, len(of_it)), 3)])
    assert sorted(rows) == sorted(expected)
    for all_, few in zip(whole.vectors, some.vectors, strict=True):
        assert np.array_equal(all_[rows], few)
