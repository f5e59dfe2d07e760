"""The layout: neighbours stay neighbours, later points fall among them, nothing is moved."""

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from platonic_store.geometry import layout, pca_map
from platonic_store.geometry.layout import Layout, fit, place


@pytest.fixture(scope="module")
def clusters():
    """600 points about 20 centres in 30 dimensions, and which centre each belongs to."""
    rng = np.random.default_rng(0)
    label = rng.integers(20, size=600)
    return rng.standard_normal((20, 30))[label] + 0.2 * rng.standard_normal((600, 30)), label


@pytest.fixture(scope="module")
def fitted(clusters):
    return fit(clusters[0][:500])


def test_it_keeps_neighbours_better_than_principal_axes(clusters, fitted):
    points = layout.unit32(clusters[0][:500])
    flat = pca_map.apply(pca_map.principal_axes(points), points)
    pca, kept = (trustworthiness(points, xy, n_neighbors=10) for xy in (flat, fitted.xy))
    assert kept > 0.97 > pca
    assert trustworthiness(fitted.xy, points, n_neighbors=10) > 0.95
    assert 0.85 < np.abs(fitted.xy).max() < 1.2


def test_the_same_rows_give_the_same_layout_whatever_their_lengths(clusters, fitted):
    again = fit(4 * clusters[0][:500])
    np.testing.assert_array_equal(again.xy, fitted.xy)


def test_what_was_fitted_lies_where_it_was_put(clusters, fitted):
    np.testing.assert_array_equal(place(fitted, clusters[0][:500]), fitted.xy)


def test_new_points_fall_among_their_own(clusters, fitted):
    points, label = clusters
    xy = place(fitted, points[500:])
    nearest = np.linalg.norm(xy[:, None] - fitted.xy, axis=2).argmin(1)
    assert (label[nearest] == label[500:]).mean() > 0.95
    alone = np.vstack([place(fitted, point[None]) for point in points[500:510]])
    np.testing.assert_array_equal(alone, xy[:10])
    assert place(fitted, points[:0]).shape == (0, 2)


def test_it_is_kept_as_bytes_and_points(clusters, fitted):
    stored = Layout.from_bytes(fitted.to_bytes(), fitted.points, fitted.xy)
    np.testing.assert_array_equal(place(stored, clusters[0]), place(fitted, clusters[0]))


@pytest.mark.parametrize("shape", [(1, 5), (2, 1), (3, 8), (layout.FEW, 200)])
def test_few_points_and_many_dimensions(shape):
    points = np.random.default_rng(0).standard_normal(shape)
    found = fit(points)
    assert found.points.shape == (shape[0], min(shape[1], layout.DIMENSION))
    assert np.isfinite(found.xy).all()
    assert np.isfinite(place(found, points)).all()


def test_points_that_are_all_alike():
    found = fit(np.ones((60, 4)))
    assert np.isfinite(found.xy).all()


@pytest.mark.parametrize("wrong", [np.ones(3), np.ones((0, 3)), [[np.nan, 1]]])
def test_what_cannot_be_laid_out(wrong):
    with pytest.raises(ValueError, match="finite"):
        fit(wrong)


def test_coordinates_of_another_space(fitted):
    with pytest.raises(ValueError, match="30"):
        place(fitted, np.ones((2, 31)))
