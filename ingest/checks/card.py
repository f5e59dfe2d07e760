"""What holds of a model beside its card: what the card says, and the weights that it names."""

import random
import sys
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from ingest.checks.crystals import crystals
from ingest.checks.deviations import deviation, vectors
from ingest.checks.official import official_part
from ingest.families import Model, Potential, load


def matches_card(model: Model, card: Mapping[str, Any]) -> float:
    """Layers, cutoff, elements, energy head and forces are those of the card."""
    predicts = hasattr(model, "predict")
    assert predicts == (card["conservative"] is not None), f"has forces: {predicts}"
    assert dict(model.layers) == {layer["index"]: layer["dim"] for layer in card["layers"]}
    assert model.cutoff == card["cutoff"], f"its cutoff is {model.cutoff} Å"
    assert model.elements == set(card["elements"]), f"its elements are {sorted(model.elements)}"
    has_head = hasattr(official_part(card), "head")
    assert has_head == card["head"], f"official.py has {'a' if has_head else 'no'} head"
    return 0.0


def loaded_whole(model: Model, card: Mapping[str, Any]) -> float:
    """Loaded again after other random numbers, it embeds the same to the last bit on a CPU.

    A tensor that a checkpoint does not fill is as it was drawn; one that begins as zeros or ones
    passes unseen.
    """
    _draw_elsewhere()
    again = load(card, model.device)
    assert again.checkpoint_sha256 == model.checkpoint_sha256, "its identity is another"
    once, twice = vectors(model, crystals()), vectors(again, crystals())
    if model.device == "cpu":
        layers = [i for i in once if not np.array_equal(once[i], twice[i])]
        assert not layers, f"layers {layers} differ: tensors that were not loaded"
        if hasattr(model, "predict"):
            graphs = [model.graph(one) for one in crystals()]
            both = [cast(Potential, each) for each in (model, again)]
            one, other = (each.predict(graphs, [], False)[1].energies for each in both)
            assert np.array_equal(one, other), "energies differ: tensors that were not loaded"
    return deviation(twice, once)


def _draw_elsewhere() -> None:
    """Leave the random numbers of this process where another process would not be."""
    np.random.seed(20_241_224)  # noqa: NPY002 — packages draw from it
    random.seed(20_241_224)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(20_241_224)
    if tensorflow := sys.modules.get("tensorflow"):
        tensorflow.random.set_seed(20_241_224)
