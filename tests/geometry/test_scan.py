"""The pass for one query must give what the exact search gives, ties and all."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from platonic_store.geometry.neighbours import nearest, nearest_to_one, row_lengths


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 300),
    k=st.integers(1, 20),
    spread=st.sampled_from([0.0, 1e-7, 1e-4, 1.0]),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    is_masked=st.booleans(),
)
def test_one_query_is_answered_like_many(seed, n, k, spread, scale, is_masked):
    rng = np.random.default_rng(seed)
    rows = 1 + spread * rng.standard_normal((n, 24))  # as near to one another as features get
    rows[rng.random(n) < 0.2] = rows[0]
    rows[rng.random(n) < 0.1] = 0
    rows = (scale * rows).astype(np.float32)
    mask = rng.random(n) < 0.5 if is_masked else None
    query = rows[0] + scale * spread * rng.standard_normal(24)
    found = nearest_to_one(query, rows, row_lengths(rows), k, mask)
    among = np.flatnonzero(mask) if mask is not None else np.arange(n)
    index, distance = nearest(query[None], rows[among], k)
    assert found[0].tolist() == among[index[0]].tolist()
    np.testing.assert_allclose(found[1], distance[0], atol=1e-12)
