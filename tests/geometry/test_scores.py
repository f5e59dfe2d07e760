"""Typicality, retrieval, pooling and the map."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.decomposition import PCA

from platonic_store.geometry.pca_map import apply, principal_axes
from platonic_store.geometry.pooling import mean_by_structure
from platonic_store.geometry.retrieval import retrieval
from platonic_store.geometry.typicality import conformal_p

scores = st.lists(st.floats(-10, 10), min_size=1, max_size=30)


def cloud(n: int, features: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, features)).astype("f4")


@given(scores, scores)
def test_conformal_p_counts(values, calibration):
    expected = [(1 + sum(c >= s for c in calibration)) / (1 + len(calibration)) for s in values]
    np.testing.assert_allclose(conformal_p(values, calibration), expected)


@pytest.mark.parametrize(
    ("values", "calibration", "message"),
    [([1.0], [], "needs calibration"), ([np.nan], [1.0], "NaN"), ([1.0], [np.nan], "NaN")],
)
def test_conformal_p_of_nothing(values, calibration, message):
    with pytest.raises(ValueError, match=message):
        conformal_p(values, calibration)


def test_a_space_retrieves_itself():
    z = cloud(700)
    assert retrieval(z, 3 * z, 1) == 1


@pytest.mark.parametrize("k", [1, 10, 50])
def test_retrieval_counts_ranks(k):
    za, zb = cloud(600), cloud(600, seed=1) + cloud(600)
    unit = [z / np.linalg.norm(z, axis=1, keepdims=True) for z in (za, zb)]
    cosines = unit[0] @ unit[1].T
    ranks = (cosines > np.diag(cosines)[:, None]).sum(1)
    assert retrieval(za, zb, k) == pytest.approx(np.mean(ranks < k), abs=1e-3)


def test_a_collapsed_space_retrieves_by_chance():
    assert retrieval(cloud(100), np.ones((100, 8)), 10) == pytest.approx(0.1)


def test_retrieval_of_shuffled_rows_is_chance():
    z, order = cloud(1_000), np.random.default_rng(3).permutation(1_000)
    assert retrieval(z, z[order], 100) == pytest.approx(0.1, abs=0.03)


def test_rows_that_do_not_correspond():
    with pytest.raises(ValueError, match="not the same atoms"):
        retrieval(cloud(5), cloud(6), 1)
    with pytest.raises(ValueError, match="k must be within 1…5"):
        retrieval(cloud(5), cloud(5), 6)


@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 20), st.just(3)), elements=st.floats(-9, 9, width=32)
    ),
    st.data(),
)
def test_mean_by_structure_in_any_order(rows, data):
    labels = data.draw(hnp.arrays(int, len(rows), elements=st.integers(0, 5)))
    index = np.unique(labels, return_inverse=True)[1]
    expected = [rows[index == i].astype(float).mean(0) for i in range(index.max() + 1)]
    np.testing.assert_allclose(mean_by_structure(rows, index), expected, atol=1e-6)


def test_mean_by_structure_is_exact_for_many_atoms():
    rows = np.full((100_000, 1), 0.1, dtype="f4")
    assert mean_by_structure(rows, np.zeros(100_000, int))[0, 0] == np.float32(0.1)


@pytest.mark.parametrize("index", [[0, 2, 2], [1, 1, 1], [0, 1], [-1, 0, 1]])
def test_structure_numbers_with_a_gap(index):
    with pytest.raises(ValueError, match="structure numbers"):
        mean_by_structure(np.ones((3, 2)), index)


def test_principal_axes_are_scikit_learns_up_to_sign():
    points = cloud(300) * [5, 3, 1, 1, 1, 1, 1, 1] + 4
    axes, pca = principal_axes(points), PCA(2).fit(points)
    np.testing.assert_allclose(np.abs(axes.components.T), np.abs(pca.components_), atol=1e-4)
    np.testing.assert_allclose(axes.explained, pca.explained_variance_ratio_, rtol=1e-4)
    np.testing.assert_allclose(
        np.abs(apply(axes, points)), np.abs(pca.transform(points)), atol=1e-3
    )


def test_principal_axes_do_not_depend_on_the_order_of_rows():
    points = cloud(300) * [5, 3, 1, 1, 1, 1, 1, 1]
    axes, turned = principal_axes(points), principal_axes(points[::-1])
    np.testing.assert_allclose(axes.components, turned.components, atol=1e-9)
    assert (axes.components[np.abs(axes.components).argmax(0), [0, 1]] > 0).all()


def test_a_map_of_one_point_is_its_origin():
    axes = principal_axes(np.ones((1, 3)))
    np.testing.assert_array_equal(apply(axes, np.ones((1, 3))), [[0, 0]])
    np.testing.assert_array_equal(axes.explained, [0, 0])


def test_a_map_needs_two_dimensions():
    with pytest.raises(ValueError, match="D ≥ 2"):
        principal_axes(np.ones((5, 1)))
