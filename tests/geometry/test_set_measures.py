"""Measures of sets against their published formulas, and sets whose answer is known."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist

from platonic_store.geometry import set_measures as geometry


@pytest.fixture
def sets():
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 12)) + 0.4, rng.normal(size=(420, 12)) * 1.2


def test_manifold_is_what_naeem_et_al_define(sets):
    a, b = sets
    k = 5
    reach_a, reach_b = (np.sort(cdist(rows, rows), axis=1)[:, k] for rows in sets)
    apart = cdist(b, a)
    found = geometry.manifold(a, b, k)
    assert found.precision.mean() == (apart <= reach_b[:, None]).any(0).mean()
    assert found.recall.mean() == (apart <= reach_a).any(1).mean()
    assert found.density.mean() == pytest.approx((apart <= reach_b[:, None]).sum() / k / len(a))
    assert found.coverage.mean() == (apart.min(1) <= reach_b).mean()


def test_blocks_change_nothing(sets, monkeypatch):
    whole = geometry.manifold(*sets)
    monkeypatch.setattr(geometry, "BLOCK", 37)
    for one, other in zip(whole, geometry.manifold(*sets), strict=True):
        np.testing.assert_array_equal(one, other)


def test_frechet_distance_by_the_root_of_the_product(sets):
    a, b = sets
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    expected = np.square(a.mean(0) - b.mean(0)).sum()
    expected += np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    assert geometry.frechet_distance(a, b) == pytest.approx(expected)
    assert geometry.frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-9)
    shifted = geometry.frechet_distance(a, a + 2.0)
    assert shifted == pytest.approx(4 * a.shape[1])


def test_vendi_by_the_whole_kernel(sets):
    unit = sets[0] / np.linalg.norm(sets[0], axis=1, keepdims=True)
    shares = np.linalg.eigvalsh(unit @ unit.T / len(unit))
    shares = shares[shares > 1e-12]
    assert geometry.vendi(sets[0]) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert geometry.vendi(np.eye(7)) == pytest.approx(7)
    assert geometry.vendi(np.ones((9, 4))) == pytest.approx(1)


def test_one_set_in_the_place_of_both(sets):
    a, _ = sets
    found = geometry.manifold(a, a)
    assert all(values.mean() == 1 for values in (found.precision, found.recall, found.coverage))
    # Each row is in its own ball and in those of about k others: Naeem et al. expect 1 + 1/k.
    assert found.density.mean() == pytest.approx(1.2, abs=0.01)
    far = geometry.manifold(a, a + 100)
    assert max(values.max() for values in far) == 0


def test_intervals_hold_the_truth_as_often_as_they_say():
    held = {"mean": 0, "frechet": 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        a, b = rng.normal(size=(200, 3)) + 1, rng.normal(size=(200, 3))
        low, high = geometry.mean_interval(a[:, 0], 100, rng)
        held["mean"] += low <= 1 <= high
        low, high = geometry.interval(geometry.frechet_distance, (a, b), 60, rng)
        held["frechet"] += low <= 3 <= high
    assert all(count >= 51 for count in held.values()), held


def test_halves_are_disjoint_and_of_one_size():
    some, first, second = geometry.halves(1_000, 300, np.random.default_rng(0))
    assert len(some) == len(first) == 150
    assert not set(first) & set(second)
    few, first, second = geometry.halves(20, 300, np.random.default_rng(0))
    assert (len(few), len(first), len(second)) == (20, 20, 280)


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="neighbours"):
        geometry.manifold(np.ones((5, 2)), np.ones((50, 2)), 5)
