"""Against numpy, and against what is true of made-up data."""

import numpy as np
import pytest

from platonic_store.geometry.committee import conformal_factor, energy_differences, judge


def test_references_of_elements_are_no_difference():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(6), 60)
    energy = rng.normal(size=60)
    shifts = rng.normal(0, 5, size=(3, 6))
    found = energy_differences(energy + shifts @ shares.T, shares)
    assert np.abs(found).max() < 1e-8
    odd = np.zeros((3, 60))
    odd[1, 7] = 0.3
    found = energy_differences(energy + shifts @ shares.T + odd, shares)
    assert found[1, 7] == pytest.approx(0.2, abs=0.02), "of its mean with the two others"
    assert np.abs(found[1, 7]) > 5 * np.abs(np.delete(found[1], 7)).max()


def test_the_only_structure_of_an_element_has_no_difference():
    shares = np.eye(3)[[0, 0, 1, 1, 2]]
    found = energy_differences(np.random.default_rng(0).normal(size=(2, 5)), shares)
    assert np.isfinite(found[:, :4]).all()
    assert np.isnan(found[:, 4]).all()


def test_a_factor_counts_compositions_not_rows():
    scores = np.array([1.0, 2.0, 3.0, 9.0, 9.0, 9.0, 9.0])
    groups = np.array([0, 1, 2, 3, 3, 3, 3])
    assert conformal_factor(scores, groups, 0.6) == 3.0
    assert conformal_factor(scores, groups, 0.8) == 9.0
    assert np.isnan(conformal_factor(scores, groups, 0.9)), "one group in ten is not among four"


def made_up(rng, compositions=800, labelled=1.0):
    """Errors of which spread tells the most, in compositions of one to eight rows."""
    groups = np.repeat(rng.integers(2**40, size=compositions), rng.integers(1, 9, compositions))
    odd = np.repeat(rng.normal(0, 0.3, compositions), np.unique(groups, return_counts=True)[1])
    groups = np.sort(groups)
    force = rng.lognormal(-2, 1, len(groups))
    spread = 0.1 * force * rng.lognormal(0, 0.7, len(groups))
    errors = spread**0.8 * np.exp(odd + rng.normal(0, 0.4, len(groups)))
    errors[rng.random(len(groups)) > labelled] = np.nan
    return np.column_stack([spread, force]), errors, groups


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_errors_of_new_compositions_keep_below_their_bound(coverage):
    shares = []
    for seed in range(20):
        features, errors, groups = made_up(np.random.default_rng(seed), 200)
        found = judge(features, errors, groups, coverage)
        below = errors <= found.bound
        shares.append(np.mean([below[groups == one].mean() for one in np.unique(groups)]))
    assert np.mean(shares) == pytest.approx(coverage, abs=0.02)


def test_no_row_is_judged_by_labels_of_its_own_composition():
    features, errors, groups = made_up(np.random.default_rng(1), 300)
    before = judge(features, errors, groups)
    one = groups == groups[0]
    changed = np.where(one, errors * 100, errors)
    again = judge(features, changed, groups)
    assert np.array_equal(again.bound[one], before.bound[one])
    assert not np.array_equal(again.bound, before.bound)


def test_order_does_not_matter_and_few_labels_give_no_bound():
    rng = np.random.default_rng(2)
    features, errors, groups = made_up(rng, 150, labelled=0.5)
    order = rng.permutation(len(errors))
    found = judge(features, errors, groups)
    shuffled = judge(features[order], errors[order], groups[order])
    assert np.allclose(shuffled.bound, found.bound[order])
    assert np.isfinite(found.bound).all(), "those without a label too"
    none = judge(features, np.full(len(errors), np.nan), groups)
    assert np.isnan(none.expected).all()
    few = judge(features, np.where(groups < np.unique(groups)[8], errors, np.nan), groups)
    assert np.isnan(few.bound).all()
