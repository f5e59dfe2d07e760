"""Measures of alignment against their definitions, written out pair by pair."""

import numpy as np
import pytest
from scipy.spatial import procrustes as scipy_procrustes
from scipy.stats import spearmanr

from platonic_store.geometry import measures
from platonic_store.geometry.measures import View
from platonic_store.geometry.retrieval import retrieval, retrieval_matrix
from platonic_store.geometry.typicality import conformal_p

N, K = 40, 5
EVERY = measures.SYMMETRIC | measures.DIRECTED
RNG = np.random.default_rng(7)
X = RNG.standard_normal((N, 6)) + 2
Y = np.tanh(X @ RNG.standard_normal((6, 9))) + 0.3 * RNG.standard_normal((N, 9))
SAME = np.arange(N)


def value(name: str, x=X, y=Y, order=SAME) -> float:
    return EVERY[name](View(x, K), View(y, K), order)


def naive_gram(x: np.ndarray) -> np.ndarray:
    rows = x - x.mean(0)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit @ unit.T


def naive_near(x: np.ndarray) -> list[set[int]]:
    gram = naive_gram(x)
    return [
        set(sorted((j for j in range(N) if j != i), key=lambda j: -gram[i, j])[:K])
        for i in range(N)
    ]


def naive_cknna(x: np.ndarray, y: np.ndarray) -> float:
    def align(a, b):
        total = 0.0
        (ga, gb), (na, nb) = (naive_gram(a), naive_gram(b)), (naive_near(a), naive_near(b))
        for i in range(N):
            for j in na[i] & nb[i]:
                total += (ga[i, j] - ga[i].mean()) * (gb[i, j] - gb[i].mean())
        return total

    return align(x, y) / np.sqrt(align(x, x) * align(y, y))


def naive_hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012, equation 4: the mean over all quadruples of four different rows."""
    k, m = x @ x.T, y @ y.T
    n, total, count = len(x), 0.0, 0
    for i in range(n):
        for j in range(n):
            for q in range(n):
                for r in range(n):
                    if len({i, j, q, r}) == 4:
                        total += k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q])
                        count += 1
    return total / count


def naive_imbalance(x: np.ndarray, y: np.ndarray) -> float:
    dx = np.linalg.norm(x[:, None] - x[None], axis=2)
    dy = np.linalg.norm(y[:, None] - y[None], axis=2)
    ranks = []
    for i in range(N):
        others = [j for j in range(N) if j != i]
        nearest = min(others, key=lambda j: dx[i, j])
        ranks.append(1 + sum(dy[i, j] < dy[i, nearest] for j in others))
    return 2 / N * float(np.mean(ranks))


def test_mutual_knn_and_cknna_are_their_definitions():
    shared = [len(a & b) / K for a, b in zip(naive_near(X), naive_near(Y), strict=True)]
    assert value("mutual_knn") == pytest.approx(np.mean(shared))
    assert value("cknna") == pytest.approx(naive_cknna(X, Y))


def test_debiased_cka_is_the_mean_over_quadruples_of_different_atoms():
    x, y = X[:9], Y[:9]
    x, y = x - x.mean(0), y - y.mean(0)
    expected = naive_hsic(x, y) / np.sqrt(naive_hsic(x, x) * naive_hsic(y, y))
    assert EVERY["cka"](View(x, 3), View(y, 3), np.arange(9)) == pytest.approx(expected)


def test_rsa_is_the_spearman_correlation_of_distances():
    upper = np.triu_indices(N, 1)
    dx, dy = (np.linalg.norm(z[:, None] - z[None], axis=2)[upper] for z in (X, Y))
    assert value("rsa") == pytest.approx(spearmanr(dx, dy).statistic, abs=1e-6)


def test_procrustes_is_scipys():
    """SciPy's disparity is 1 - (our similarity)² for spaces of one width."""
    disparity = scipy_procrustes(X, Y[:, :6])[2]
    assert value("procrustes", y=Y[:, :6]) == pytest.approx(np.sqrt(1 - disparity))


def test_imbalance_is_its_definition_in_both_directions():
    assert value("imbalance") == pytest.approx(naive_imbalance(X, Y))
    assert value("imbalance", Y, X) == pytest.approx(naive_imbalance(Y, X))


@pytest.mark.parametrize("name", EVERY)
def test_an_order_of_b_is_b_in_that_order(name):
    order = np.random.default_rng(1).permutation(N)
    assert value(name, order=order) == pytest.approx(value(name, y=Y[order]), abs=1e-6)


@pytest.mark.parametrize("name", EVERY)
def test_a_model_turned_scaled_and_moved_is_itself(name):
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((6, 6)))[0]
    best = measures.BEST.get(name, 1.0)
    # The nearest of all has rank 1, not 0: 2/n is the least an imbalance can be.
    assert value(name, y=3 * X @ turn + 5) == pytest.approx(best, abs=2 / N + 1e-9)


@pytest.mark.parametrize("name", EVERY)
def test_what_corresponds_stands_out_of_the_null_and_what_does_not_does_not(name):
    a, b = View(X, K), View(Y, K)
    best = measures.BEST.get(name, 1.0)
    shuffled = measures.permutation_null(EVERY[name], a, b, 50, seed=0)
    assert measures.calibrated(value(name), shuffled, best) > 0.15
    stranger = View(np.random.default_rng(9).standard_normal((N, 9)), K)
    shuffled = measures.permutation_null(EVERY[name], a, stranger, 50, seed=0)
    found = EVERY[name](a, stranger, SAME)
    assert abs(measures.calibrated(found, shuffled, best)) < 0.15


def test_a_retrieval_matrix_holds_retrieval_on_its_diagonal_and_of_shuffles_along_others():
    z = np.random.default_rng(3).standard_normal((N, 6)).round(1)
    order = np.random.default_rng(4).permutation(N)
    hits = retrieval_matrix(X, z, 3)
    assert hits[SAME, SAME].mean() == pytest.approx(retrieval(X, z, 3), abs=1e-6)
    shuffled = retrieval(X, z[order], 3)
    assert hits[SAME, order].mean() == pytest.approx(shuffled, abs=1e-6)


def test_the_null_of_mutual_knn_is_chance_and_its_seed_is_kept():
    a, b = View(X, K), View(X + 0.1 * Y[:, :6], K)
    null = measures.permutation_null(measures.mutual_knn, a, b, 40, seed=3)
    assert null.mean() == pytest.approx(K / (N - 1), abs=0.03)
    assert conformal_p([measures.mutual_knn(a, b, SAME)], null)[0] == 1 / 41
    again = measures.permutation_null(measures.mutual_knn, a, b, 40, seed=3)
    np.testing.assert_array_equal(null, again)


def test_halves_hold_whole_structures_and_their_spread_is_the_standard_error():
    groups = np.repeat(np.arange(200), 3)
    scores = np.random.default_rng(5).standard_normal(200)[groups]  # as one a structure
    parts = measures.halves(groups, 400, seed=0)
    for part in parts[:5]:
        assert len(part) == 300
        assert (np.bincount(groups[part]) % 3 == 0).all()
    spread = np.std([scores[part].mean() for part in parts])
    assert spread == pytest.approx(1 / np.sqrt(200), rel=0.25)


@pytest.mark.parametrize("rows", [np.ones(9), np.ones((3, 2)), np.full((9, 2), np.nan)])
def test_rows_that_cannot_be_compared(rows):
    with pytest.raises(ValueError, match="at least 4 finite rows"):
        View(rows, 1)


@pytest.mark.parametrize("k", [0, N])
def test_no_such_number_of_neighbours(k):
    with pytest.raises(ValueError, match=f"k must be within 1…{N - 1}, not {k}"):
        View(X, k)


def test_too_few_structures_to_halve():
    with pytest.raises(ValueError, match="need at least 4 structures, not 3"):
        measures.halves([1, 1, 2, 3], 5, seed=0)


def test_atoms_all_alike_align_with_nothing():
    a, b = View(np.ones((N, 3)), K), View(X, K)
    for name in ("cka", "cknna", "procrustes", "rsa"):
        assert EVERY[name](a, b, SAME) == 0
