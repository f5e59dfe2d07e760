"""Covers of points: what they promise, and that blocks do not show."""

import numpy as np
import pytest

from platonic_store.geometry import cover as geometry
from platonic_store.geometry.cover import Cover
from platonic_store.geometry.neighbours import distances


def points(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, 8))
    return (centres[rng.integers(0, 20, n)] + 0.2 * rng.standard_normal((n, 8))).astype(np.float32)


@pytest.mark.parametrize("radius", [0.003, 0.02, 0.3])
def test_all_are_near_a_kept_one_and_kept_ones_are_apart(radius):
    some = points(700)
    cover = Cover(radius)
    kept = cover.add(some)
    apart = distances(some, some[kept])
    np.testing.assert_allclose(cover.distances(some), apart.min(1), atol=1e-6)
    assert apart.min(1).max() <= radius + 1e-6
    among = distances(some[kept], some[kept]) + 2 * np.eye(kept.sum())
    assert among.min() > radius - 1e-6
    assert 1 < kept.sum() < 700


def test_pieces_and_blocks_decide_as_one(monkeypatch):
    some = points(500)
    whole = Cover(0.02).add(some)
    monkeypatch.setattr(geometry, "BLOCK", 64)
    monkeypatch.setattr(geometry, "ROWS", 10)
    cover = Cover(0.02)
    parts = [cover.add(part) for part in np.array_split(some, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert cover.size == whole.sum()


def test_of_the_same_points_the_first_is_kept():
    assert np.flatnonzero(Cover(0.1).add(np.ones((50, 3)))).tolist() == [0]


def test_nothing_is_infinitely_far():
    assert np.isinf(Cover(0.1).distances(np.ones((2, 3)))).all()
