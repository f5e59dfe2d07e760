import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platonic_store.geometry.arithmetic import combine, hits_at_1


@given(st.integers(0, 2**32 - 1), st.integers(3, 40))
def test_a_parallelogram_closes(seed, n):
    """Where the exchange adds the same everywhere, the fourth corner is found among any others."""
    rng = np.random.default_rng(seed)
    base, step = rng.normal(size=(n, 16)), rng.normal(size=16)
    points = np.concatenate([base, base + step])
    starts, others = np.arange(n, 2 * n), np.roll(np.arange(n), 1)
    queries = np.stack(
        [combine([1, -1, 1], points[[a, a - n, c]]) for a, c in zip(starts, others, strict=True)]
    )
    excluded = np.stack([starts, starts - n, others], axis=1)
    hits, nearest = hits_at_1(queries, points, others + n, excluded)
    assert hits.tolist() == [1] * n
    assert nearest.tolist() == (others + n).tolist()


def test_what_cannot_be_told_apart_shares_the_first_rank():
    points = np.array([[1.0, 0], [2.0, 0], [3.0, 0], [0, 1.0]])
    hits, _ = hits_at_1(points[:1], points, [1], [[0]])
    assert hits == [0.5], "points 1 and 2 have one direction"
    hits, nearest = hits_at_1(points[:1], points, [3], [[0]])
    assert hits == [0]
    assert nearest[0] in (1, 2)


def test_a_term_is_no_answer():
    points = np.eye(3)
    hits, nearest = hits_at_1(points[:1] + 0.1 * points[1:2], points, [1], [[0]])
    assert (hits[0], nearest[0]) == (1, 1)
    with pytest.raises(ValueError, match="a target is excluded"):
        hits_at_1(points[:1], points, [0], [[0]])
    with pytest.raises(ValueError, match="weights of shape"):
        combine([1, -1], points)
