import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import cdist

from platonic_store.geometry import neighbours
from platonic_store.geometry.neighbours import distances, nearest, nearest_others


def tables(rows: tuple[int, int]) -> st.SearchStrategy[np.ndarray]:
    shape = st.tuples(st.integers(*rows), st.just(3))
    return hnp.arrays(np.float32, shape, elements=st.integers(-2, 2).map(float))


def brute_force(query, points, k):
    """By sorting all pairs, with ties to the smaller index."""
    table = np.round(distances(query, points), 12)
    index = np.argsort(table, axis=1, kind="stable")[:, :k]
    return index, np.take_along_axis(table, index, axis=1)


@given(tables((0, 40)), tables((0, 30)), st.integers(1, 40), st.integers(1, 31), st.integers(1, 41))
def test_nearest_is_brute_force_however_it_is_cut(query, points, k, rows, queries):
    index, distance = brute_force(query, points, k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "ROWS", rows)
        patch.setattr(neighbours, "QUERIES", queries)
        found, at = nearest(query, points, k)
    np.testing.assert_allclose(at, distance, atol=1e-11)
    np.testing.assert_array_equal(found, index)
    assert found.shape == at.shape == (len(query), min(k, len(points)))


def test_equal_points_come_in_the_order_of_their_index():
    rng = np.random.default_rng(0)
    points = np.tile(rng.standard_normal((3, 128)).astype("f4"), (5_000, 1))
    for count in (1, 20):  # few, and many
        found, distance = nearest(np.repeat(points[1:2], count, axis=0), points, 6)
        np.testing.assert_array_equal(found, count * [[1, 4, 7, 10, 13, 16]])
        np.testing.assert_array_equal(distance, np.zeros((count, 6)))


@pytest.mark.parametrize("queries", [3, 40])
def test_what_the_groups_of_candidates_leave_out_is_no_answer(queries):
    rng = np.random.default_rng(3)
    points = rng.standard_normal((3_000, 12)).astype("f4")
    points[::32] = points[0] + 0.01 * rng.standard_normal((94, 12))  # the nearest, in few groups
    hubs = rng.uniform(0, 0.2, 3_000).astype("f4")
    index, expected = brute_force(points[:queries], points, 5)
    found, distance = nearest(points[:queries], points, 5)
    np.testing.assert_array_equal(found, index)
    np.testing.assert_allclose(distance, expected, atol=1e-11)
    score = np.round(distances(points[:queries], points) + hubs.astype(float) / 2, 12)
    by_hubs = np.argsort(score, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(nearest(points[:queries], points, 5, hubs)[0], by_hubs)


def test_large_search_is_brute_force(monkeypatch):
    rng = np.random.default_rng(0)
    points = rng.standard_normal((2_000, 20)).astype("f4")
    monkeypatch.setattr(neighbours, "ROWS", 300)
    monkeypatch.setattr(neighbours, "QUERIES", 7)
    found, distance = nearest(points[:50], points, 10)
    index, expected = brute_force(points[:50], points, 10)
    np.testing.assert_array_equal(found, index)
    np.testing.assert_allclose(distance, expected, atol=1e-11)


@given(tables((2, 30)), st.integers(1, 35))
def test_nearest_others_are_those_of_all_others(points, k):
    found, at = nearest_others(points, k)
    table = np.round(distances(points, points), 12)
    np.fill_diagonal(table, np.inf)
    expected = np.sort(table, axis=1)[:, : min(k, len(points) - 1)]
    np.testing.assert_allclose(at, expected, atol=1e-11)
    assert not (found == np.arange(len(points))[:, None]).any()
    assert all(len(set(row)) == len(row) for row in found.tolist())


def test_distances_are_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((20, 8)), rng.standard_normal((30, 8))
    np.testing.assert_allclose(distances(a, b), cdist(a, b, "cosine"), atol=1e-12)


def test_a_point_is_at_no_distance_from_itself():
    rows = (1e4 * np.random.default_rng(0).standard_normal((500, 64))).astype("f4")
    own = np.diag(distances(rows, rows))
    assert (own >= 0).all()
    assert own.max() < 1e-14


def test_a_tiny_angle_is_resolved():
    near = np.array([[1, 1e-5]])
    assert distances([[1, 0]], near)[0, 0] == pytest.approx(5e-11, rel=1e-4)


def test_a_zero_vector_is_at_distance_one():
    np.testing.assert_array_equal(distances([[0, 0]], [[1, 0], [-1, 0], [0, 0]]), [[1, 1, 1]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"query": np.array([[np.nan, 0, 0]])}, "finite"),
        ({"query": np.ones(3)}, "finite"),
        ({"query": np.ones((1, 4))}, "cannot compare"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        nearest(**{"query": np.ones((1, 3)), "points": np.ones((5, 3)), "k": 1} | arguments)
