import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platonic_store.geometry.stitching import cross_read, decode, r2


@pytest.fixture
def world():
    """300 rows in three coordinates that two models share, and a value that they determine."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 3)) * [3, 1, 0.1]
    return rows, rows @ [1.0, -2.0, 0.5] + 7, np.arange(300) % 5


def test_what_two_models_share_is_read_from_either(world):
    rows, values, folds = world
    noisy = rows + np.random.default_rng(1).normal(0, 0.1, rows.shape)
    own, stitched, stranger = cross_read(rows, [rows, noisy, rows[::-1]], values, folds)
    assert r2(values, own, range(300))[0] > 0.999
    assert 0.9 < r2(values, stitched, range(300))[0] < r2(values, own, range(300))[0]
    assert r2(values, stranger, range(300))[0] < 0.1


def test_a_readout_has_not_seen_what_it_reads(world):
    rows, values, folds = world
    other = values.copy()
    other[folds == 2] += np.random.default_rng(2).normal(0, 100, (folds == 2).sum())
    (before,), (after,) = (cross_read(rows, [rows], each, folds) for each in (values, other))
    np.testing.assert_allclose(before[folds == 2], after[folds == 2], rtol=1e-9)


def test_a_negative_fold_is_trained_on_and_never_tested(world):
    rows, values, folds = world
    folds = np.where(np.arange(300) < 50, -1, folds)
    (read,) = cross_read(rows, [rows], values, folds)
    assert np.isnan(read[:50]).all()
    assert np.isfinite(read[50:]).all()


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_noise_is_read_no_better_than_the_mean(seed):
    rng = np.random.default_rng(seed)
    rows, values = rng.normal(size=(200, 40)), rng.normal(size=200)
    (read,) = cross_read(rows, [rows], values, np.arange(200) % 4)
    assert r2(values, read, range(200))[0] < 0.15


def test_decoding_finds_a_linear_map():
    rng = np.random.default_rng(0)
    coordinates, through = rng.normal(size=(400, 6)), rng.normal(size=(6, 9))
    features = coordinates @ through + 3
    decoded = decode(coordinates[:100], features[:100], coordinates[100:])
    np.testing.assert_allclose(decoded, features[100:], atol=0.01)


def test_r2_and_its_interval():
    rng = np.random.default_rng(0)
    values, groups = rng.normal(size=1000), np.arange(1000) // 2
    assert r2(values, values, groups) == (1, 1, 1)
    assert r2(values, np.full(1000, values.mean()), groups)[0] == pytest.approx(0, abs=1e-12)
    score, low, high = r2(values, values + rng.normal(0, 0.5, 1000), groups)
    assert low < score < high
    assert score == pytest.approx(0.75, abs=0.05)
    every_row = r2(np.repeat(values, 4), np.repeat(values + 0.5, 4), np.arange(4000))
    whole = r2(np.repeat(values, 4), np.repeat(values + 0.5, 4), np.repeat(np.arange(1000), 4))
    assert whole[2] - whole[1] > 1.5 * (every_row[2] - every_row[1]), "copies are no evidence"


def test_what_does_not_match_is_refused(world):
    rows, values, folds = world
    with pytest.raises(ValueError, match="do not match"):
        cross_read(rows[:-1], [rows], values, folds)
    with pytest.raises(ValueError, match="need at least 3 folds"):
        cross_read(rows, [rows], values, folds % 2)
