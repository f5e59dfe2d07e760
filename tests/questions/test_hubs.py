"""Hub scores in a real space: stored with the coordinates, and in the order of every answer."""

import numpy as np
import pytest
from scipy.special import logsumexp

from platonic_store.geometry.neighbours import distances
from platonic_store.questions.shared import indexed
from platonic_store.storage import lookup, vectors


@pytest.fixture(scope="module")
def answering(prototypes):
    snapshot = prototypes.snapshot()
    space = lookup.space(snapshot, None, ["sevennet-0", "chgnet-0.3.0"])
    side = lookup.side_in(snapshot, space, "chgnet-0.3.0")
    return {
        level: lookup.vector_table(snapshot, side, level, space) for level in ("atom", "structure")
    }


def test_hub_scores_are_told_by_the_other_models_coordinates(prototypes, answering):
    snapshot = prototypes.snapshot()
    space = answering["structure"].space
    side = lookup.side_in(snapshot, space, "sevennet-0")
    other = lookup.vector_table(snapshot, side, "structure", space)
    points = snapshot.points(answering["structure"])
    cosines = 1 - distances(points.vectors, snapshot.points(other).vectors)
    everybody = 1.5 * logsumexp(400 * cosines, axis=1, b=1 / cosines.shape[1]) / 400
    assert points.hubs.dtype == np.float32
    np.testing.assert_allclose(points.hubs, everybody, atol=1e-3)  # kept in half precision


@pytest.mark.parametrize("level", ["structure", "atom"])
def test_across_models_rows_come_in_the_corrected_order(prototypes, answering, level):
    site = 0 if level == "atom" else None
    found = prototypes.similar(
        "Spinel", site=site, model="sevennet-0", across="chgnet-0.3.0", k=200
    )
    names = ["structure_id", "site_index"][: 1 if level == "structure" else 2]
    points = prototypes.snapshot().points(answering[level])
    known = points.keys.select(names).to_pandas().assign(hub=points.hubs)
    corrected = found.merge(known, on=names, how="left").eval("distance + hub / 2")
    assert corrected.is_monotonic_increasing
    assert not found["distance"].is_monotonic_increasing
    within = prototypes.similar("Spinel", site=site, model="chgnet-0.3.0", space="aligned", k=200)
    assert within["distance"].is_monotonic_increasing


def test_neighbours_of_all_are_those_of_each(prototypes):
    both = {"model": "sevennet-0", "across": "chgnet-0.3.0"}
    found = prototypes.neighbours(**both, k=4)
    one = prototypes.similar("Spinel", **both, k=4)
    rows = found[found["structure_id"] == "Spinel"]
    assert rows["neighbour"].tolist() == one["structure_id"].tolist()


def test_the_index_gives_the_corrected_order_too(prototypes, monkeypatch):
    ask = {"site": 0, "model": "sevennet-0", "across": "chgnet-0.3.0", "k": 20}
    exact = prototypes.similar("Spinel", **ask)
    monkeypatch.setattr(indexed, "fits_cache", lambda _: False)
    monkeypatch.setattr(vectors, "fits_cache", lambda _: False)
    by_index = prototypes.similar("Spinel", **ask)
    assert by_index["structure_id"].tolist() == exact["structure_id"].tolist()
    np.testing.assert_allclose(by_index["distance"], exact["distance"], atol=1e-6)


@pytest.mark.parametrize(
    "where", ["spacegroup > 100", "nsites = 2 AND list_contains(elements, 'O')", "element = 'O'"]
)
def test_by_the_index_a_condition_gives_what_a_scan_does(prototypes, monkeypatch, where):
    ask = {"site": 0, "model": "sevennet-0", "k": 8, "where": where}
    exact = prototypes.similar("Spinel", **ask)
    monkeypatch.setattr(indexed, "fits_cache", lambda _: False)
    monkeypatch.setattr(vectors, "fits_cache", lambda _: False)
    for _ in range(2):
        by_index = prototypes.similar("Spinel", **ask)
        np.testing.assert_allclose(by_index["distance"], exact["distance"], atol=1e-6)
        assert len(by_index) == len(exact) > 0
