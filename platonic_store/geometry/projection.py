"""Recipes: from a model's own embeddings to coordinates that all models share.

Li and Walsh, arXiv 2512.05349, equation for the platonic coordinates of atom i:

    z_i = [cos(e_i, a_1), …, cos(e_i, a_K)]

A recipe says what happens to e and a before the cosines. It is fitted to the anchors alone, so that
new atoms change no coordinates. The recipe `aligned` replaces the cosines by a Gaussian of the
distance, and multiplies these similarities by a matrix; see `consensus`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import Any, Literal, NamedTuple, Self, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from platonic_store.geometry.neighbours import unit_rows

Recipe = Literal["cosine", "centred", "whitened", "aligned"]

CHUNK = 512  # rows held in double precision at once, with their similarities to K anchors
# The Gaussian's width in units of the anchors' typical distance from their mean; docs/recipes.md.
WIDTH = np.sqrt(5)


@dataclass(frozen=True, eq=False)
class Projection:
    """A fitted recipe: what `project` needs, as plain arrays.

    Attributes:
        recipe: its name.
        centre: (D,) float64, subtracted from every embedding.
        transform: (D, D') float64 applied after that, or None.
        anchors: (K, D') float64, centred, transformed and of unit length (or zero); for `aligned`
            centred only.
        width: of the Gaussian, in units of the embeddings, or None for cosines.
        weights: (K, d) float64 that the similarities are multiplied by, or None.
        scale: (D,) float64 that centred embeddings are divided by, or None; of several layers side
            by side, each layer's own.
        squared: (D,) bool, the numbers whose roots are taken before all this, or None.
    """

    recipe: Recipe
    centre: NDArray[np.float64]
    transform: NDArray[np.float64] | None
    anchors: NDArray[np.float64]
    width: float | None = None
    weights: NDArray[np.float64] | None = None
    scale: NDArray[np.float64] | None = None
    squared: NDArray[np.bool_] | None = None

    @property
    def dim(self) -> int:
        """How many coordinates an atom has."""
        return len(self.anchors) if self.weights is None else int(self.weights.shape[1])

    @cached_property
    def with_squares(self) -> NDArray[np.float64]:
        """(K, D' + 2): the anchors in units of the width, with what makes products distances."""
        return _with_squares(self.anchors / cast(float, self.width), first=True)

    def to_bytes(self) -> bytes:
        """An .npz archive without pickles; equal projections give equal bytes."""
        arrays: dict[str, Any] = {"centre": self.centre, "anchors": self.anchors}
        if self.transform is not None:
            arrays["transform"] = self.transform
        if self.weights is not None:
            arrays |= {"width": np.array(self.width), "weights": self.weights}
        if self.scale is not None:
            arrays["scale"] = self.scale
        if self.squared is not None:
            arrays["squared"] = self.squared
        buffer = BytesIO()
        np.savez(buffer, recipe=np.array(self.recipe), **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The projection that `to_bytes` wrote.

        Raises:
            ValueError: the bytes are no projection.
        """
        try:
            with np.load(BytesIO(data), allow_pickle=False) as arrays:
                return cls(
                    recipe=_known(str(arrays["recipe"])),
                    centre=arrays["centre"],
                    transform=arrays.get("transform"),
                    anchors=arrays["anchors"],
                    width=float(arrays["width"]) if "width" in arrays else None,
                    weights=arrays.get("weights"),
                    scale=arrays.get("scale"),
                    squared=arrays.get("squared"),
                )
        except Exception as error:  # zipfile, numpy and KeyError each have their own
            raise ValueError(f"not a projection: {error}") from error


def fit(recipe: Recipe, anchors: ArrayLike) -> Projection:
    """Fit a recipe from one model's embeddings of the anchors.

    `cosine` is the paper's: e and a as they are. `centred` first subtracts the anchors' mean.
    `whitened` then decorrelates: with u the centred anchors' directions (unit vectors), since a
    cosine depends on direction alone and a few outlying anchors should not dominate the covariance,
    it applies C^(-1/2), C the Ledoit-Wolf shrinkage (J. Multivar. Anal. 88, 365, 2004) of
    mean(u u^T). The shrinkage has no parameter, adapts to K, and gives directions that K < D
    anchors do not span the same weight as the average one. `aligned` is fitted to several models:
    `consensus.join`.

    Args:
        recipe: "cosine", "centred" or "whitened".
        anchors: (K, D), finite.

    Raises:
        ValueError: an unknown recipe or `aligned`, anchors not 2-D and finite, or fewer than two of
            them for a recipe that subtracts their mean.
    """
    rows = np.asarray(anchors, dtype=np.float64)
    if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
        raise ValueError(f"anchors must be a finite (K, D) matrix, not of shape {rows.shape}")
    if _known(recipe) == "aligned":
        raise ValueError("recipe 'aligned' is fitted to several models: `consensus.join`")
    if recipe == "cosine":
        return Projection(recipe, np.zeros(rows.shape[1]), None, unit_rows(rows))
    if len(rows) < 2:
        raise ValueError(f"recipe '{recipe}' needs at least two anchors")
    centre = rows.mean(0)
    rows = rows - centre
    if recipe == "centred":
        return Projection(recipe, centre, None, unit_rows(rows))
    transform = _whitening(unit_rows(rows))
    return Projection(recipe, centre, transform, unit_rows(rows @ transform))


def project(projection: Projection, embeddings: ArrayLike) -> NDArray[np.float32]:
    """Coordinates of embeddings: their cosines with the anchors, after the recipe.

    With `aligned`: their directions in the consensus.

    Computed in double precision, a chunk at a time, then rounded to single: a row has the same
    coordinates alone as among others, to the last digit or so. An embedding that the recipe
    takes to zero has zero coordinates.

    Args:
        projection: from `fit`, of the same model and layer as the embeddings.
        embeddings: (n, D); of several layers, these side by side as they are.

    Returns:
        (n, K) float32 within [-1, 1]; with `aligned` (n, d) float32 of unit length.

    Raises:
        ValueError: embeddings are not (n, D).
    """
    rows = np.asarray(embeddings)
    features = len(projection.centre)
    if rows.ndim != 2 or rows.shape[1] != features:
        raise ValueError(f"this projection takes (n, {features}) embeddings, not {rows.shape}")
    coordinates = np.empty((len(rows), projection.dim), dtype=np.float32)
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        if projection.squared is not None:
            part = roots(part, projection.squared)
        part = part - projection.centre
        if projection.scale is not None:
            part /= projection.scale
        if projection.transform is not None:
            part = part @ projection.transform
        coordinates[start : start + CHUNK] = _read(projection, part)
    return coordinates


class SideBySide(NamedTuple):
    """Layers as one: rows (n, ΣD), each layer centred and of unit root mean square length.

    centre, scale: (ΣD,), what was subtracted, and what was divided by then.
    """

    rows: NDArray[np.float64]
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]


def side_by_side(layers: Sequence[ArrayLike]) -> SideBySide:
    """Several layers' embeddings of the same atoms, (n, D_l) each, so that each layer counts alike.

    Raises: ValueError if the layers have not the same atoms.
    """
    parts = [np.asarray(one, dtype=np.float64) for one in layers]
    if len({len(one) for one in parts}) != 1:
        raise ValueError(f"layers of {[len(one) for one in parts]} atoms")
    centres = [one.mean(0) for one in parts]
    lengths = [
        float(np.sqrt(((one - centre) ** 2).sum(1).mean())) or 1.0
        for one, centre in zip(parts, centres, strict=True)
    ]
    centre = np.concatenate(centres)
    scale = np.repeat(lengths, [one.shape[1] for one in parts])
    return SideBySide((np.concatenate(parts, axis=1) - centre) / scale, centre, scale)


def roots(rows: ArrayLike, squared: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(n, D) with the roots of those numbers that are squared; below zero, minus the root."""
    numbers = np.array(rows, dtype=np.float64)
    numbers[:, squared] = np.sign(numbers[:, squared]) * np.sqrt(np.abs(numbers[:, squared]))
    return numbers


def gaussian(a: NDArray[np.float64], b: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """(n, m) similarities exp(-|a - b|² / 2 width²)."""
    exponents: NDArray[np.float64] = a @ b.T
    exponents -= np.einsum("ij,ij->i", a, a)[:, None] / 2
    exponents -= np.einsum("ij,ij->i", b, b) / 2
    exponents /= width**2
    np.minimum(exponents, 0, out=exponents)
    return np.exp(exponents, out=exponents)


def kernel_width(anchors: NDArray[np.float64]) -> float:
    """WIDTH times the root mean square distance of the anchors from their mean (1 if none)."""
    spread = np.sqrt(((anchors - anchors.mean(0)) ** 2).sum(1).mean())
    return float(WIDTH * spread) or 1.0


def _read(projection: Projection, part: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinates of what the recipe made of embeddings, (n, D')."""
    if projection.weights is None or projection.width is None:
        return np.clip(unit_rows(part) @ projection.anchors.T, -1, 1)
    # `gaussian`, its exponents by one product.
    exponents = _with_squares(part / projection.width, first=False) @ projection.with_squares.T
    return unit_rows(np.exp(exponents, out=exponents) @ projection.weights)


def _with_squares(rows: NDArray[np.float64], *, first: bool) -> NDArray[np.float64]:
    """Rows (n, D) with two more columns, so that products of those made with `first` and of those
    made without are -|a - b|² / 2.
    """
    half, ones = -np.einsum("ij,ij->i", rows, rows) / 2, np.ones(len(rows))
    return np.column_stack([rows, *((half, ones) if first else (ones, half))])


def _known(recipe: str) -> Recipe:
    if recipe in get_args(Recipe):
        return cast(Recipe, recipe)
    raise ValueError(f"unknown recipe '{recipe}', choose one of {', '.join(get_args(Recipe))}")


def _whitening(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """C^(-1/2), the symmetric root: unlike V / sqrt(w), free of the eigenvectors' signs."""
    from sklearn.covariance import ledoit_wolf

    covariance, _ = ledoit_wolf(directions, assume_centered=True)
    eigenvalues, axes = np.linalg.eigh(covariance)
    floor = np.finfo(np.float64).eps * len(eigenvalues) * eigenvalues.max()
    if floor == 0:  # all anchors alike
        return np.eye(len(covariance))
    root: NDArray[np.float64] = (axes / np.sqrt(np.maximum(eigenvalues, floor))) @ axes.T
    return root
