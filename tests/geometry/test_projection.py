import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.covariance import ledoit_wolf

from platonic_store.geometry import projection as module
from platonic_store.geometry.projection import Projection, fit, project

RECIPES = ["cosine", "centred", "whitened"]
finite = st.floats(-1e3, 1e3, width=32)


def tables(features: int, rows: tuple[int, int]) -> st.SearchStrategy[np.ndarray]:
    shape = st.tuples(st.integers(*rows), st.just(features))
    return hnp.arrays(np.float32, shape, elements=finite)


def sample(n: int, features: int = 16, seed: int = 0) -> np.ndarray:
    """Correlated, off-centre, heavy-tailed rows."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((features, features))
    return (3 + rng.standard_t(4, (n, features)) @ mixing).astype("f4")


@pytest.mark.parametrize("recipe", RECIPES)
@given(anchors=tables(5, (2, 8)), embeddings=tables(5, (0, 8)))
def test_coordinates_are_finite_cosines(recipe, anchors, embeddings):
    z = project(fit(recipe, anchors), embeddings)
    assert z.dtype == np.float32
    assert z.shape == (len(embeddings), len(anchors))
    assert np.all(np.abs(z) <= 1)


def test_cosine_is_the_papers_equation():
    anchors, embeddings = sample(10), sample(30, seed=1)
    expected = [
        [e @ a / np.linalg.norm(e) / np.linalg.norm(a) for a in anchors.astype(float)]
        for e in embeddings.astype(float)
    ]
    np.testing.assert_allclose(project(fit("cosine", anchors), embeddings), expected, atol=1e-7)


@given(scale=st.floats(1e-3, 1e3))
def test_cosine_does_not_depend_on_scale(scale):
    anchors, embeddings = sample(10), sample(5, seed=1).astype(float)
    z = project(fit("cosine", anchors), embeddings)
    np.testing.assert_allclose(
        z, project(fit("cosine", anchors * scale), embeddings / scale), atol=1e-6
    )


@pytest.mark.parametrize("recipe", ["centred", "whitened"])
def test_centred_recipes_do_not_depend_on_the_origin(recipe):
    anchors, embeddings = sample(40).astype(float), sample(5, seed=1).astype(float)
    z = project(fit(recipe, anchors), embeddings)
    np.testing.assert_allclose(z, project(fit(recipe, anchors + 9), embeddings + 9), atol=1e-6)


@pytest.mark.parametrize("recipe", RECIPES)
def test_coordinates_do_not_depend_on_the_models_axes(recipe):
    """Two models that differ by a rotation are one."""
    rotation = np.linalg.qr(np.random.default_rng(3).standard_normal((16, 16)))[0]
    anchors, embeddings = sample(40).astype(float), sample(5, seed=1).astype(float)
    z = project(fit(recipe, anchors), embeddings)
    turned = project(fit(recipe, anchors @ rotation), embeddings @ rotation)
    np.testing.assert_allclose(z, turned, atol=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_anchor_is_its_own_nearest(recipe):
    anchors = sample(40)
    z = project(fit(recipe, anchors), anchors)
    np.testing.assert_allclose(np.diag(z), 1, atol=1e-6)
    assert (z.argmax(1) == np.arange(40)).all()


def test_whitened_directions_have_unit_covariance_up_to_the_shrinkage():
    anchors = sample(500)
    fitted = fit("whitened", anchors)
    centred = anchors - anchors.mean(0, dtype=float)
    directions = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    shrunk, shrinkage = ledoit_wolf(directions, assume_centered=True)
    np.testing.assert_allclose(fitted.transform @ shrunk @ fitted.transform, np.eye(16), atol=1e-9)
    whitened = directions @ fitted.transform
    variances = np.linalg.eigvalsh(whitened.T @ whitened / len(whitened))
    assert variances.max() <= 1 / (1 - shrinkage) + 1e-9
    assert np.median(variances) > 0.9


def test_whitening_of_fewer_anchors_than_features_is_regular():
    fitted = fit("whitened", sample(6))
    scales = np.linalg.eigvalsh(fitted.transform)
    assert scales.min() > 0
    assert scales.max() / scales.min() < 100


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_a_recipe_takes_to_zero_has_zero_coordinates(recipe):
    fitted = fit(recipe, sample(40))
    z = project(fitted, fitted.centre[None])
    np.testing.assert_array_equal(z, np.zeros((1, 40)))


@pytest.mark.parametrize("recipe", RECIPES)
def test_anchors_all_alike_give_no_nan(recipe):
    z = project(fit(recipe, np.ones((4, 3))), np.eye(3))
    assert np.isfinite(z).all()


@pytest.mark.parametrize("recipe", RECIPES)
def test_one_row_alone_is_projected_as_among_others(recipe, monkeypatch):
    fitted, embeddings = fit(recipe, sample(40)), sample(100, seed=1)
    z = project(fitted, embeddings)
    monkeypatch.setattr(module, "CHUNK", 7)
    np.testing.assert_allclose(project(fitted, embeddings), z, atol=1e-7)
    np.testing.assert_allclose(project(fitted, embeddings[50:51]), z[50:51], atol=1e-7)


@pytest.mark.parametrize("recipe", RECIPES)
def test_bytes_bring_back_the_same_projection(recipe):
    fitted, embeddings = fit(recipe, sample(40)), sample(10, seed=1)
    data = fitted.to_bytes()
    back = Projection.from_bytes(data)
    assert back.recipe == recipe
    np.testing.assert_array_equal(project(back, embeddings), project(fitted, embeddings))
    assert back.to_bytes() == data == fit(recipe, sample(40)).to_bytes()
    assert fit(recipe, sample(40, seed=2)).to_bytes() != data


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"anything else"])
def test_bytes_that_are_no_projection(data):
    with pytest.raises(ValueError, match="not a projection"):
        Projection.from_bytes(data)


def test_an_unknown_recipe_is_answered_with_the_known():
    with pytest.raises(ValueError, match="unknown recipe 'whiten', choose one of cosine, centred"):
        fit("whiten", sample(4))


def test_one_anchor_cannot_be_centred():
    with pytest.raises(ValueError, match="at least two anchors"):
        fit("centred", np.ones((1, 3)))


@pytest.mark.parametrize("anchors", [np.ones(3), np.empty((0, 3)), np.array([[np.nan, 1]])])
def test_anchors_that_are_no_finite_matrix(anchors):
    with pytest.raises(ValueError, match="anchors must be a finite"):
        fit("cosine", anchors)


def test_embeddings_of_another_model():
    with pytest.raises(ValueError, match=r"takes \(n, 16\) embeddings"):
        project(fit("cosine", sample(4)), np.ones((2, 8)))
