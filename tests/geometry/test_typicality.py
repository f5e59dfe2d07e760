"""The local score of typicality, and its p-values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest
from sklearn.neighbors import NearestNeighbors

from platonic_store.geometry import typicality
from platonic_store.geometry.neighbours import nearest
from platonic_store.geometry.typicality import (
    Atoms,
    conformal_p,
    conformal_p_by_class,
    neighbourhoods,
    score,
)


def cloud(n: int, seed: int, *, elements: int = 3, groups: int = 10**6, first: int = 0) -> Atoms:
    """Atoms on a curved sheet of their element's own, in 16 dimensions."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, elements, n)
    sheet = np.random.default_rng(1).standard_normal((elements, 3, 16))
    flat = rng.standard_normal((n, 2))
    vectors = np.einsum("ni,nid->nd", np.c_[np.ones(n) * 3, flat], sheet[kind])
    vectors += 0.05 * np.square(flat).sum(1, keepdims=True)
    noise = 0.02 * rng.standard_normal(vectors.shape)
    return Atoms((vectors + noise).astype("f4"), kind, first + rng.integers(0, groups, n))


def test_neighbours_are_the_nearest_of_the_element_in_other_compositions():
    atoms, reference = cloud(60, 2, groups=5), cloud(300, 3, groups=5)
    for rows, index, distance in neighbourhoods(atoms, reference, 7):
        for row, found, distances in zip(rows, index, distance, strict=True):
            may = (reference.elements == atoms.elements[row]) & (
                reference.groups != atoms.groups[row]
            )
            search = NearestNeighbors(n_neighbors=7, metric="cosine").fit(reference.vectors[may])
            expected = search.kneighbors(atoms.vectors[row : row + 1])[0][0]
            assert may[found].all()
            np.testing.assert_allclose(distances, expected, atol=1e-6)


def test_atoms_with_other_numbers_of_their_own_are_searched_together(monkeypatch):
    atoms, reference = cloud(60, 2, elements=1, groups=25), cloud(300, 3, elements=1, groups=25)
    assert len(np.unique(np.bincount(reference.groups)[atoms.groups])) > 5
    alone = [score(atoms.take(np.array([row])), reference) for row in range(60)]
    searches = []

    def counted(*given):
        searches.append(given)
        return nearest(*given)

    monkeypatch.setattr(typicality, "nearest", counted)
    found = score(atoms, reference)
    assert len(searches) <= 3  # up to 8, 16 and 32 of their own
    for name in found._fields:
        each = np.concatenate([getattr(one, name) for one in alone])
        np.testing.assert_array_equal(getattr(found, name), each, strict=True)


def test_a_rare_element_is_judged_by_all_elements():
    reference = cloud(100, 3, elements=2)
    stranger = cloud(1, 2)._replace(elements=np.array([9]))
    ((_, index, _),) = neighbourhoods(stranger, reference, 100)
    assert set(index[0]) == set(range(100))


def test_too_few_other_compositions():
    one = cloud(50, 3, groups=1)
    with pytest.raises(ValueError, match="fewer than 5"):
        score(one, one)


@given(st.integers(0, 2**32 - 1))
def test_scores_do_not_hang_on_the_order_of_rows(seed):
    rng = np.random.default_rng(seed)
    atoms, reference = cloud(20, 2), cloud(200, 3)
    one, other = rng.permutation(20), rng.permutation(200)
    expected = score(atoms, reference)
    found = score(Atoms(*(c[one] for c in atoms)), Atoms(*(c[other] for c in reference)))
    np.testing.assert_allclose(found.atypicality, expected.atypicality[one], rtol=1e-9)
    np.testing.assert_array_equal(other[found.nearest], expected.nearest[one])


def test_what_lies_off_the_sheet_is_atypical():
    reference, typical = cloud(2_000, 3), cloud(300, 4)
    rng = np.random.default_rng(5)
    off = typical._replace(vectors=typical.vectors + 0.3 * rng.standard_normal((300, 16)))
    inside, outside = score(typical, reference), score(off, reference)
    assert np.mean(outside.atypicality[:, None] > inside.atypicality) > 0.98
    assert np.mean(outside.density < inside.density) > 0.9
    assert (inside.density > 0).all()
    assert (inside.density <= 1).all()


def test_p_is_uniform_for_the_typical_of_each_element():
    reference, calibration, fresh = (cloud(n, n) for n in (1_500, 3_000, 3_001))
    of_calibration, of_fresh = (score(a, reference).atypicality for a in (calibration, fresh))
    p = conformal_p(of_fresh, of_calibration)
    assert kstest(p, "uniform").pvalue > 0.001
    by_element = conformal_p_by_class(
        of_fresh, fresh.elements, of_calibration, calibration.elements
    )
    for element in range(3):
        assert 0.03 < np.mean(by_element[fresh.elements == element] <= 0.05) < 0.07


def test_a_member_of_the_calibration_is_compared_with_the_others():
    scores = np.array([3.0, 1.0, 2.0])
    np.testing.assert_allclose(conformal_p(scores, scores, True), [1 / 3, 1, 2 / 3])


def test_a_class_with_few_scores_is_judged_by_all():
    calibration = np.arange(200.0)
    classes = np.r_[np.zeros(195), np.ones(5)]
    p = conformal_p_by_class([10.0, 10.0], [0, 1], calibration, classes)
    np.testing.assert_allclose(p, [(1 + 185) / 196, (1 + 190) / 201])
