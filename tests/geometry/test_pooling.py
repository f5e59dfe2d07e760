"""Poolings: the same crystal in any order and any cell has the same vector."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platonic_store.geometry.neighbours import distances
from platonic_store.geometry.pooling import POOLINGS, element_spread, pool

CRYSTALS = st.integers(0, 2**32 - 1)


def crystals(seed: int, n: int = 40, m: int = 5):
    """Atoms of m structures in no order: embeddings, structures, numbers, orbits."""
    dice = np.random.default_rng(seed)
    owner = np.concatenate([np.arange(m), dice.integers(0, m, n - m)])
    orbits = dice.integers(0, 4, n)
    return dice.normal(size=(n, 16)).astype(np.float32), owner, orbits + 10, orbits


@pytest.mark.parametrize("name", POOLINGS)
@given(CRYSTALS)
def test_neither_order_nor_cell_matters(name, seed):
    atoms, owner, numbers, orbits = crystals(seed)
    expected = pool(name, atoms, owner, numbers, orbits)
    assert expected.shape == (5, 16 * POOLINGS[name].blocks)
    order = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(atoms)), 3))
    tripled = [column[order] for column in (atoms, owner, numbers, orbits)]
    np.testing.assert_allclose(pool(name, *tripled), expected, atol=2e-3)


def test_cumulants_are_those_of_scipy():
    from scipy.stats import moment

    atoms, owner, numbers, _ = crystals(1)
    pooled = pool("cumulants", atoms, owner, numbers)
    for structure in range(5):
        rows = atoms[owner == structure].astype(float)
        third = np.cbrt(moment(rows, 3))
        expected = np.concatenate([rows.mean(axis=0), rows.std(axis=0), third])
        np.testing.assert_allclose(pooled[structure], expected, atol=1e-5)
    pair = pool("cumulants-2", atoms, owner, numbers)
    np.testing.assert_array_equal(pair, pooled[:, :32])


def test_by_element_compares_like_with_like():
    """Of one composition the distance is that of each element's means, weighted by share."""
    dice = np.random.default_rng(0)
    numbers = np.array([8, 8, 22] * 2)
    atoms = dice.normal(size=(6, 4096))
    one, other = pool("by-element", atoms, [0, 0, 0, 1, 1, 1], numbers).astype(float)
    oxygen = atoms[[0, 1]].mean(axis=0) - atoms[[3, 4]].mean(axis=0)
    expected = 2 / 3 * (oxygen**2).sum() + 1 / 3 * ((atoms[2] - atoms[5]) ** 2).sum()
    assert ((one - other) ** 2).sum() == pytest.approx(expected, rel=0.1)
    swapped = pool("by-element", atoms, [0, 0, 0, 1, 1, 1], [8, 8, 22, 22, 22, 8]).astype(float)
    assert distances(swapped[:1], swapped[1:])[0, 0] > 0.5


def test_by_site_counts_a_site_once():
    atoms = np.array([[0.0, 1], [0, 1], [0, 1], [3, 0]])
    np.testing.assert_allclose(pool("by-site", atoms, [0] * 4, [1] * 4, [0, 0, 0, 3]), [[1.5, 0.5]])
    np.testing.assert_allclose(pool("by-site", atoms, [0] * 4, [1] * 4), [[0.75, 0.75]])


def test_the_spread_is_the_mean_over_pairs_of_one_element():
    dice = np.random.default_rng(0)
    atoms, numbers = dice.normal(size=(30, 5)), np.array([1] * 12 + [2] * 17 + [3])
    by_element = {z: distances(atoms[numbers == z], atoms[numbers == z]) for z in (1, 2)}
    means = {z: apart.sum() / (len(apart) * (len(apart) - 1)) for z, apart in by_element.items()}
    expected = (12 * means[1] + 17 * means[2]) / 29
    assert element_spread(atoms, numbers) == pytest.approx(expected)
    assert np.isnan(element_spread(atoms[:2], [1, 2]))
    assert element_spread(np.tile(atoms[:1], (5, 1)), [1, 1, 1, 2, 2]) == 1


def test_no_atoms_and_no_such_pooling():
    assert pool("cumulants", np.empty((0, 4)), [], []).shape == (0, 12)
    with pytest.raises(KeyError):
        pool("median", np.ones((1, 2)), [0], [1])
