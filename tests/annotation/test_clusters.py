"""Groups of rows do not hang on the order in which rows come, and are what they say."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from platonic_store.geometry.clusters import mode_clusters, near_duplicate_groups
from platonic_store.geometry.neighbours import distances, nearest_others


def same(groups: np.ndarray) -> np.ndarray:
    return groups[:, None] == groups


def test_two_swarms_have_two_modes():
    dice = np.random.default_rng(0)
    swarms = [centre + 0.05 * dice.normal(size=(30, 3)) for centre in np.eye(3)[:2]]
    mode = mode_clusters(*nearest_others(np.vstack(swarms), 20))
    assert len(set(mode[:30])) == len(set(mode[30:])) == 1
    assert mode[0] < 30 <= mode[30]


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 8))
def test_the_groups_are_the_same_for_the_same_rows_in_any_order(seed, n, k):
    dice = np.random.default_rng(seed)
    points, order = dice.normal(size=(n, 4)), dice.permutation(n)
    k = min(k, n - 1)
    mode = mode_clusters(*nearest_others(points, k))
    assert (mode[mode] == mode).all()
    shuffled = mode_clusters(*nearest_others(points[order], k))
    assert (same(shuffled) == same(mode[order])).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.floats(0, 0.5))
def test_every_duplicate_leads_to_the_first_of_its_kind(seed, n, within):
    dice = np.random.default_rng(seed)
    points, kinds = dice.normal(size=(n, 2)), dice.integers(0, 3, n)
    first = near_duplicate_groups(points, kinds, within)
    near = (distances(points, points) <= within) & (kinds[:, None] == kinds)
    assert (first <= np.arange(n)).all()
    assert (first[first] == first).all()
    assert (kinds[first] == kinds).all()
    is_first = first == np.arange(n)
    assert (is_first == ~np.tril(near, -1).any(axis=1)).all()
