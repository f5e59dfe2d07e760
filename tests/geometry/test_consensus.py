"""A consensus of models that are strange, nonlinear, noisy views of one hidden space."""

import numpy as np
import pytest

from platonic_store.geometry import consensus as module
from platonic_store.geometry.consensus import (
    SMALLEST,
    Choice,
    choose,
    consensus,
    join,
    joining_with,
    refine,
)
from platonic_store.geometry.neighbours import unit_rows
from platonic_store.geometry.projection import CHUNK, Projection, fit, gaussian, project
from platonic_store.geometry.retrieval import retrieval

K, REST = 160, 300
PENALTY = 1e-5
GROUPS = np.arange(K) % 50


def views(seed: int = 0, noise: float = 0.02) -> list[np.ndarray]:
    """Two models of the same K + REST atoms."""
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((K + REST, 4))
    mix = [rng.standard_normal((4, dim)) for dim in (12, 20)]
    clean = [np.tanh(hidden @ mix[0] / 2), np.sin(hidden @ mix[1] / 3) + 5]
    return [one + noise * rng.standard_normal(one.shape) for one in clean]


def aligned(models: list[np.ndarray], penalty: float = PENALTY) -> list[np.ndarray]:
    targets = consensus([one[:K] for one in models], penalty)
    return [project(join(one[:K], targets, penalty), one[K:]) for one in models]


def test_nonlinear_views_of_one_thing_find_each_other():
    models = views()
    mine = retrieval(*aligned(models), 1)
    whitened = [project(fit("whitened", one[:K]), one[K:]) for one in models]
    assert mine > 0.8
    assert mine > retrieval(*whitened, 1) + 0.2


def test_what_has_nothing_to_do_with_the_others_finds_nothing():
    a, b = views(0)[0], views(1)[1]
    assert retrieval(*aligned([a, b]), 10) < 3 * 10 / REST


def test_the_consensus_is_centred_orthogonal_and_of_fixed_signs():
    targets = consensus([one[:K] for one in views()], PENALTY)
    assert targets.shape == (K, K // 2)
    np.testing.assert_allclose(targets.mean(0), 0, atol=1e-9)
    gram = targets.T @ targets / K
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-9)
    assert (np.diff(np.diag(gram)) <= 1e-9).all()
    assert (targets.max(0) >= -targets.min(0)).all()


def test_it_is_what_all_smoothers_keep_best():
    """Against the definition, written out: no direction is kept better than the first column."""
    models = [one[:K] for one in views()]
    targets = consensus(models, PENALTY)
    kept = np.zeros((K, K))
    for one in models:
        rows = one - one.mean(0)
        squares = ((rows[:, None] - rows[None]) ** 2).sum(2)
        kernel = np.exp(-squares / (2 * 5 * (rows**2).sum(1).mean()))
        kept += kernel @ np.linalg.inv(kernel + PENALTY * K * np.eye(K)) / len(models)
    centring = np.eye(K) - 1 / K
    share = np.linalg.eigvalsh(centring @ kept @ centring)[::-1][: K // 2]
    np.testing.assert_allclose((targets**2).mean(0), np.clip(share, 0, 1) ** 16, rtol=1e-5)


def test_the_order_of_models_and_their_axes_and_units_do_not_matter():
    a, b = views()
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((20, 20)))[0]
    za, zb = aligned([a, b])
    for models in ([b, a], [b @ turn * 7 + 3, a]):
        other_b, other_a = aligned(models)
        np.testing.assert_allclose(za @ za.T, other_a @ other_a.T, atol=1e-3)
        np.testing.assert_allclose(zb @ za.T, other_b @ other_a.T, atol=1e-3)


def test_of_squared_lengths_the_roots_are_taken():
    a, b = views()
    squares = np.exp(2 * b - 10)  # as heavy-tailed as TensorNet's
    targets = consensus([a[:K], squares[:K]], PENALTY)
    asked = project(join(a[:K], targets, PENALTY), a[K:])
    fitted = join(squares[:K], targets, PENALTY)
    shifted = join(squares[:K] + 100, targets, PENALTY)
    assert fitted.squared is not None
    assert fitted.squared.all()
    assert shifted.squared is None
    found = project(fitted, squares[K:])
    assert retrieval(asked, found, 1) > retrieval(asked, project(shifted, squares[K:] + 100), 1)
    again = Projection.from_bytes(fitted.to_bytes())
    np.testing.assert_array_equal(project(again, squares[K:]), found)


def test_rows_are_unit_vectors_alone_as_among_others():
    models = views()
    targets = consensus([one[:K] for one in models], PENALTY)
    fitted = join(models[0][:K], targets, PENALTY)
    z = project(fitted, models[0])
    assert z.dtype == np.float32
    assert z.shape == (K + REST, fitted.dim)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(project(fitted, models[0][7:8]), z[7:8], atol=1e-6)
    assert not project(fitted, np.full((1, 12), 1e9)).any(), "like no anchor: no direction"


def test_bytes_bring_back_the_same_projection():
    a, b = views()
    fitted = join(a[:K], consensus([a[:K], b[:K]], PENALTY), PENALTY)
    back = Projection.from_bytes(fitted.to_bytes())
    assert back.recipe == "aligned"
    np.testing.assert_array_equal(project(back, a), project(fitted, a))


def test_cross_validation_prefers_what_finds_the_held_out():
    choice = choose([one[:K] for one in views()], GROUPS)
    assert choice.penalty is not None
    assert choice.recalls[f"{choice.penalty:g}"] == max(choice.recalls.values())
    assert choice.recalls[f"{choice.penalty:g}"] > choice.recalls["whitened"]
    assert choice == choose([one[:K] for one in views()], GROUPS)


def test_models_with_nothing_in_common_stay_whitened_or_score_as_chance():
    choice = choose([views(0)[0][:K], views(1)[1][:K]], GROUPS)
    assert max(choice.recalls.values()) < 0.1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: choose([np.ones((9, 2))], np.arange(9)), "need at least 2 models"),
        (lambda: consensus([np.ones((3, 2))] * 2, PENALTY), "at least 4"),
        (lambda: consensus([np.ones((9, 2)), np.ones((8, 2))], PENALTY), "as many for every model"),
        (lambda: fit("aligned", np.ones((9, 2))), "several models"),
    ],
)
def test_wrong_arguments(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()


def test_with_more_anchors_lambda_falls_as_long_as_that_finds_more(monkeypatch):
    monkeypatch.setattr(module, "ENOUGH", 40)
    models = [one[:K] for one in views(noise=0)]
    found = refine(models, GROUPS, Choice(1e-3, {}, 40))
    recalls = [found.refined[f"{1 / 10**n:g}"] for n in range(3, 3 + len(found.refined))]
    assert found.refined[f"{found.penalty:g}"] == max(recalls) > recalls[0]
    assert found.penalty >= SMALLEST
    assert refine(models, GROUPS, found._replace(penalty=SMALLEST)).penalty == SMALLEST


def test_of_dense_anchors_the_kernel_is_narrower():
    rng = np.random.default_rng(0)
    widths = {}
    for k in (512, 2048, 4096):
        rows = rng.standard_normal((k, 3))
        widths[k] = join(rows, rows, 1e-3).width
    assert widths[512] == pytest.approx(widths[2048]) == pytest.approx(0.7 * np.sqrt(5))
    assert widths[4096] == pytest.approx(widths[2048] / 2**0.25)
    assert joining_with(100) == joining_with(2048)


def test_coordinates_are_the_kernels_times_the_weights():
    """To the last digit or so in single precision, also of what is far from all anchors."""
    model = views()[0]
    fitted = join(model[:K], consensus([one[:K] for one in views()], PENALTY), PENALTY)
    rows = np.tile(model, (3, 1)).astype(np.float32)
    rows[-1] *= 1e4
    assert fitted.width is not None
    parts = (rows - fitted.centre) / fitted.scale
    kernel = gaussian(parts, fitted.anchors, fitted.width)
    found = project(fitted, rows)
    np.testing.assert_allclose(found, unit_rows(kernel @ fitted.weights), atol=1e-7)
    assert len(rows) > CHUNK
    assert not found[-1].any()
