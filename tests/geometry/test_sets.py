"""Crystals as sets of atoms: the distance of two, and the nearest of many."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from platonic_store.geometry.neighbours import distances, row_lengths
from platonic_store.geometry.sets import nearest_sets, relaxed, set_distance, sets_of

seeds = st.integers(0, 2**32 - 1)


def atoms(rng: np.random.Generator, n: int, features: int = 5) -> np.ndarray:
    return rng.standard_normal((n, features)).astype(np.float32)


def even(n: int) -> np.ndarray:
    return np.full(n, 1 / n)


@settings(deadline=None)
@given(seeds, st.integers(1, 7))
def test_equal_masses_are_an_assignment(seed, n):
    rng = np.random.default_rng(seed)
    x, y = atoms(rng, n), atoms(rng, n)
    cost = distances(x, y)
    best = cost[linear_sum_assignment(cost)].mean()
    assert set_distance(x, even(n), y, even(n)) == pytest.approx(best, abs=1e-12)


@settings(deadline=None)
@given(seeds, st.integers(1, 5), st.integers(1, 5), st.integers(2, 4))
def test_symmetric_and_blind_to_repetition(seed, p, q, copies):
    rng = np.random.default_rng(seed)
    x, y = atoms(rng, p), atoms(rng, q)
    there = set_distance(x, even(p), y, even(q))
    assert set_distance(y, even(q), x, even(p)) == pytest.approx(there, abs=1e-12)
    repeated = np.tile(x, (copies, 1))
    assert set_distance(repeated, even(copies * p), y, even(q)) == pytest.approx(there, abs=1e-9)
    assert set_distance(repeated, even(copies * p), x, even(p)) == pytest.approx(0, abs=1e-7)


@settings(deadline=None)
@given(seeds)
def test_its_root_obeys_the_triangle_inequality(seed):
    rng = np.random.default_rng(seed)
    x, y, z = (atoms(rng, n) for n in (2, 3, 4))
    xy, yz, xz = (
        np.sqrt(set_distance(a, even(len(a)), b, even(len(b)))) for a, b in ((x, y), (y, z), (x, z))
    )
    assert xz <= xy + yz + 1e-7


def test_equal_means_are_not_equal_atoms():
    x, y = np.array([[1.0, 0], [0, 1]]), np.array([[1.0, 1], [1, 1]]) / 2
    np.testing.assert_array_equal(x.mean(0), y.mean(0))
    assert set_distance(x, even(2), y, even(2)) == pytest.approx(1 - np.sqrt(0.5))


def test_masses_that_are_none():
    with pytest.raises(ValueError, match="not the masses"):
        set_distance(np.eye(2), [1.0], np.eye(2), even(2))
    with pytest.raises(ValueError, match="not the masses"):
        set_distance(np.eye(2), even(2), np.eye(2), [0.5, 0.1])


def test_distinct_atoms_weigh_by_their_multiplicity():
    sets = sets_of([1, 0, 1, 1, 0], site=[2, 0, 0, 1, 1], orbit=[1, 0, 0, 1, 0])
    np.testing.assert_array_equal(sets.rows, [1, 2, 3])
    np.testing.assert_allclose(sets.mass, [1, 1 / 3, 2 / 3])
    np.testing.assert_array_equal(sets.starts, [0, 1, 3])


@settings(deadline=None)
@given(seeds)
def test_nearest_sets_are_those_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    structure = np.sort(rng.integers(0, 30, 80))
    structure = np.unique(structure, return_inverse=True)[1]
    site = np.concatenate([np.arange(n) for n in np.bincount(structure)])
    orbit = np.where(site == 1, 0, site)
    vectors = atoms(rng, 80)
    vectors[site == 1] = vectors[np.flatnonzero(site == 1) - 1]
    sets = sets_of(structure, site, orbit)
    x, a = atoms(rng, 3), even(3)
    parts = [slice(*pair) for pair in zip(sets.starts[:-1], sets.starts[1:], strict=True)]
    brute = np.array([set_distance(x, a, vectors[sets.rows[p]], sets.mass[p]) for p in parts])
    assert (relaxed(x, a, vectors, row_lengths(vectors), sets) <= brute + 1e-6).all()
    mask = rng.random(len(brute)) < 0.8
    found, distance = nearest_sets(x, a, vectors, row_lengths(vectors), sets, 5, mask)
    expected = np.flatnonzero(mask)[np.argsort(brute[mask])][:5]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(distance, brute[expected], atol=1e-10)
