import numpy as np
import pytest

from platonic_store.errors import AnchorsNotFound, InvalidQuery, ModelNotFound
from platonic_store.plots.heat_map import draw, matrix

MODELS = ["sevennet-0", "chgnet-0.3.0"]


@pytest.fixture(scope="session")
def aligned(prototypes):
    return prototypes.align(MODELS, space="aligned", atoms=300)


def test_two_models_align_beyond_chance_by_every_measure(aligned):
    assert (aligned["calibrated"] > 0.1).all()
    assert (aligned["p"] <= 0.01).all()
    assert ((aligned["low"] <= aligned["value"]) & (aligned["value"] <= aligned["high"])).all()
    best = aligned["measure"].map(lambda name: 0.0 if name == "imbalance" else 1.0)
    assert np.allclose(
        aligned["calibrated"], (aligned["value"] - aligned["null"]) / (best - aligned["null"])
    )


def test_directed_measures_come_both_ways_and_the_others_once(aligned):
    counts = aligned.groupby("measure").size()
    assert set(counts[counts == 2].index) == {"imbalance", "retrieval@1", "retrieval@10"}
    assert set(counts[counts == 1].index) == {"mutual_knn", "cknna", "cka", "rsa", "procrustes"}


def test_retrieval_leaves_the_anchors_out_and_names_its_space(aligned):
    asked = aligned[aligned["measure"] == "retrieval@10"]
    assert (asked["atoms"] < 300).all()
    assert asked["space"].str.startswith("aligned-100-").all()
    assert aligned.loc[aligned["measure"] == "cka", "space"].isna().all()


def test_the_same_seed_says_the_same_and_sql_says_what_python_does(prototypes, aligned):
    again = prototypes.sql(
        "FROM align(['sevennet-0', 'chgnet-0.3.0'], space := 'aligned', atoms := 300)"
    )
    assert again["measure"].tolist() == aligned["measure"].tolist()
    assert np.allclose(again["value"], aligned["value"])
    assert np.allclose(again["low"], aligned["low"])


def test_all_models_are_the_default_and_the_picture_is_drawn(prototypes, aligned, tmp_path):
    assert set(prototypes.align(atoms=50)["a"]) == {"sevennet-0@1", "chgnet-0.3.0@2"}
    draw(aligned, tmp_path / "heat.png")
    assert (tmp_path / "heat.png").read_bytes().startswith(b"\x89PNG")
    scores = matrix(aligned, "cka", ["sevennet-0@1", "chgnet-0.3.0@2"])
    assert scores[0, 1] == scores[1, 0] == aligned.set_index("measure").loc["cka", "calibrated"]
    with pytest.raises(InvalidQuery, match=r"\.png"):
        draw(aligned, tmp_path / "heat.txt")


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"models": ["sevennet-0", "nobody"]}, ModelNotFound, "nobody"),
        ({"atoms": 3}, InvalidQuery, "at least 20"),
        ({"space": "whitened"}, AnchorsNotFound, "no shared space whitened"),
    ],
)
def test_wrong_questions_get_one_line(prototypes, wrong, error, says):
    with pytest.raises(error, match=says) as raised:
        prototypes.align(**wrong)
    assert "\n" not in str(raised.value)
