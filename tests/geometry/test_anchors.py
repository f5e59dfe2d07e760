import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from platonic_store.geometry import anchors
from platonic_store.geometry.anchors import direct, direct_maml, farthest_point, random_rows

few_values = st.integers(-3, 3).map(float)  # so that rows collide and distances tie
tables = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 40), st.integers(1, 4)), elements=few_values
)


def clusters(n: int, features: int = 16, centres: int = 12, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    means = 5 * rng.standard_normal((centres, features))
    return (means[np.arange(n) % centres] + 0.1 * rng.standard_normal((n, features))).astype("f4")


@settings(deadline=None)
@given(tables, st.data())
def test_direct_does_not_depend_on_the_order_of_rows(rows, data):
    distinct = len(np.unique(rows, axis=0))
    k = data.draw(st.integers(1, distinct))
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    chosen = direct(rows, k)
    assert len(np.unique(rows[chosen], axis=0)) == k
    np.testing.assert_array_equal(rows[chosen], rows[order][direct(rows[order], k)])


@settings(deadline=None)
@given(tables, st.data())
def test_direct_with_keys_chooses_the_same_atoms_in_any_order(rows, data):
    keys = np.array([f"mp-{i}/0" for i in range(len(rows))])
    k = data.draw(st.integers(1, len(np.unique(rows, axis=0))))
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    chosen = keys[direct(rows, k, keys=keys)]
    shuffled = keys[order][direct(rows[order], k, keys=keys[order])]
    np.testing.assert_array_equal(chosen, shuffled)


@pytest.mark.parametrize("n", [600, 5_000])  # below and above the number of subclusters
def test_direct_takes_one_row_of_each_cluster(n):
    rows = clusters(n)
    assert sorted(direct(rows, 12) % 12) == list(range(12))


def test_direct_takes_the_row_nearest_to_the_centroid():
    offsets = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], dtype="f4") / 100
    rows = np.concatenate([centre + offsets for centre in np.eye(2, dtype="f4")])
    assert sorted(direct(rows, 2)) == [0, 5]


@pytest.mark.parametrize("keyed", [False, True])
def test_direct_on_real_embeddings_in_any_order(real_embeddings, keyed):
    keys = np.arange(len(real_embeddings)) if keyed else None
    order = np.random.default_rng(1).permutation(len(real_embeddings))
    chosen = real_embeddings[direct(real_embeddings, 50, keys=keys)]
    again = direct(real_embeddings[order], 50, keys=None if keys is None else keys[order])
    np.testing.assert_array_equal(chosen, real_embeddings[order][again])


def test_direct_covers_real_embeddings_better_than_chance(real_embeddings):
    rows = np.unique(real_embeddings, axis=0)
    standard = (rows - rows.mean(0)) / rows.std(0)

    def gap(chosen):
        return np.linalg.norm(standard[:, None] - standard[chosen], axis=2).min(1).mean()

    chance = np.mean([gap(random_rows(np.arange(len(rows)), 50, seed)) for seed in range(10)])
    assert gap(direct(rows, 50)) < chance


def test_direct_ignores_features_that_do_not_vary():
    rows = clusters(300)
    constant = np.full((300, 3), 0.1, dtype="f4")
    np.testing.assert_array_equal(
        rows[direct(rows, 12, keys=range(300))],
        rows[direct(np.hstack([rows, constant]), 12, keys=range(300))],
    )


def test_direct_is_bounded_in_memory_on_a_flat_spectrum():
    """Ward on every row of these would need 3.2 GB."""
    script = (
        "import numpy, resource; from platonic_store.geometry.anchors import direct;"
        "rows = numpy.random.default_rng(0).standard_normal((40_000, 16), dtype='f4');"
        "direct(rows[:3_000], 10);"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "direct(rows, 100);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 100_000  # KiB


@pytest.mark.parametrize("choose", [direct, direct_maml])
def test_too_few_distinct_rows(choose):
    with pytest.raises(ValueError, match="cannot choose 3 anchors from 2 distinct rows"):
        choose(np.repeat(np.eye(2, dtype="f4"), 5, axis=0), 3)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones(3), "matrix"),
        (np.array([[1.0, np.nan], [0, 1]]), "NaN"),
        (np.array([[1.0, np.inf], [0, 1]]), "infinity"),
    ],
)
@pytest.mark.parametrize("choose", [direct, farthest_point])
def test_embeddings_that_are_no_finite_matrix(choose, rows, message):
    with pytest.raises(ValueError, match=message):
        choose(rows, 1)


def test_direct_wants_a_key_a_row():
    with pytest.raises(ValueError, match="2 keys for 3 rows"):
        direct(np.eye(3), 1, keys=["a", "b"])


@settings(deadline=None)
@given(tables, st.data())
def test_farthest_point_is_greedy(rows, data):
    k = data.draw(st.integers(1, len(rows)))
    chosen = farthest_point(rows, k)
    assert len(set(chosen)) == k
    gaps = np.linalg.norm(rows.astype(float) - rows.mean(0, dtype=float), axis=1)
    assert gaps[chosen[0]] == pytest.approx(gaps.max(), abs=1e-3)
    for i in range(1, k):
        gaps = np.linalg.norm(rows[:, None] - rows[chosen[:i]], axis=2).min(1)
        assert gaps[chosen[i]] == pytest.approx(gaps.max(), abs=5e-3)


def test_farthest_point_wants_k_within_n():
    with pytest.raises(ValueError, match="cannot choose 4 anchors from 3 rows"):
        farthest_point(np.eye(3), 4)


@given(st.lists(st.integers(), unique=True, min_size=1), st.data())
def test_random_rows_does_not_depend_on_order(keys, data):
    k = data.draw(st.integers(1, len(keys)))
    shuffled = data.draw(st.permutations(keys))
    chosen = [keys[i] for i in random_rows(keys, k, 7)]
    assert len(set(chosen)) == k
    assert chosen == [shuffled[i] for i in random_rows(shuffled, k, 7)]


def test_random_rows_is_the_same_on_every_machine():
    keys = [f"mp-{i}/0" for i in range(1_000)]
    assert random_rows(keys, 5, 0).tolist() == [638, 292, 70, 972, 326]
    assert random_rows(keys, 5, 1).tolist() != random_rows(keys, 5, 0).tolist()


def test_random_rows_is_uniform():
    counts = np.bincount(np.concatenate([random_rows(range(20), 5, s) for s in range(2_000)]))
    assert np.abs(counts - 500).max() < 100  # five standard deviations


def test_random_rows_wants_distinct_keys():
    with pytest.raises(ValueError, match="distinct"):
        random_rows(["a", "b", "a"], 1, 0)


def test_importing_geometry_does_not_import_scikit_learn():
    script = (
        "import sys; from platonic_store.geometry import alignment, anchors, neighbours, pca_map,"
        " pooling, projection, typicality; assert 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_rows_over_many_chunks_are_treated_as_one(monkeypatch):
    rows = clusters(500)
    whole = direct(rows, 12)
    monkeypatch.setattr(anchors, "CHUNK", 7)
    np.testing.assert_array_equal(direct(rows, 12), whole)
