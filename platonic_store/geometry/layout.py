"""A layout: points of many dimensions on a plane, so that neighbours stay neighbours.

t-SNE (van der Maaten and Hinton, JMLR 9, 2579, 2008), as openTSNE computes it (Poličar, Stražar and
Zupan, J. Stat. Softw. 109, 3, 2024), by which the layout is fitted once. Later points are placed
among the fitted ones and move nobody. Distances are those of `similar`, cosines; those across the
map mean nothing, nor do axes, areas and gaps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from platonic_store.geometry import pca_map

DIMENSION = 128  # at most, that PCA leaves of the coordinates before neighbours are sought
PERPLEXITY = 30
ITERATIONS, _EACH = 750, 25  # a third with exaggerated attraction; progress is told after each 25
NEIGHBOURS = 10  # fitted points among which a point is placed
SAME = 1e-3  # a point so near to a fitted one lies on it; lengths are one
FEW = 50  # points: fewer are laid out by PCA
# These quantiles of x, or of y, lie at -0.9 and 0.9: few stragglers are beyond 1.
INSIDE, EDGE = (0.005, 0.995), 0.9

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Layout:
    """A fitted layout: what `place` needs, as plain arrays.

    Attributes:
        centre: (D,) float32, subtracted from coordinates of unit length.
        axes: (D, d) float32, by which they are multiplied then.
        points: (n, d) float32, the fitted points after that.
        xy: (n, 2) float32, where they lie on the map.
    """

    centre: Floats
    axes: Floats
    points: Floats
    xy: Floats

    def to_bytes(self) -> bytes:
        """`centre` and `axes` as an .npz archive without pickles."""
        buffer = BytesIO()
        np.savez(buffer, centre=self.centre, axes=self.axes)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, points: Floats, xy: Floats) -> "Layout":
        """The layout of what `to_bytes` wrote and of its fitted points."""
        with np.load(BytesIO(data), allow_pickle=False) as arrays:
            return cls(arrays["centre"], arrays["axes"], points, xy)


def fit(
    coordinates: ArrayLike, seed: int = 0, advance: Callable[[float], object] | None = None
) -> Layout:
    """Lay points out.

    The same rows in the same order give the same layout. Fewer than 50, or such as are all alike,
    are laid out by PCA.

    Args:
        coordinates: (n, D), n ≥ 1, finite.
        seed: of the random numbers.
        advance: is called with the iterations done since, of ITERATIONS, now and then.

    Returns:
        A layout with `xy` in about [-1, 1], of equal scales, centred.

    Raises:
        ValueError: coordinates not of that shape.
    """
    rows = unit32(coordinates)
    if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
        raise ValueError(f"a layout needs finite (n, D) coordinates, not {rows.shape}")
    centre, axes = _principal(rows)
    points = _reduced(rows, centre, axes)
    is_few = len(points) < FEW or not np.ptp(points, axis=0).any()
    flat = _flat(points) if is_few else _tsne(points, seed, advance)
    return Layout(centre, axes, points, _scaled(flat))


def place(layout: Layout, coordinates: ArrayLike) -> Floats:
    """Where points lie in a layout: amidst the fitted points that are nearest to them.

    Of the ten nearest, the five that lie closest to the others' median count, each by its inverse
    squared distance: a mean of all would lie between clusters, where nothing is. A point that was
    fitted lies where it was put. No point moves another.

    Args:
        layout: from `fit`.
        coordinates: (n, D), as it was fitted to.

    Returns:
        (n, 2) float32.

    Raises:
        ValueError: coordinates are not (n, D).
    """
    rows = np.asarray(coordinates)
    if rows.ndim != 2 or rows.shape[1] != len(layout.centre):
        raise ValueError(f"this layout takes (n, {len(layout.centre)}), not {rows.shape}")
    if not len(rows):
        return np.empty((0, 2), dtype=np.float32)
    points = _reduced(unit32(rows), layout.centre, layout.axes)
    index, distance = _nearest(layout.points, points)
    around = layout.xy[index]
    off = np.linalg.norm(around - np.median(around, axis=1, keepdims=True), axis=2)
    counts = off <= np.sort(off, axis=1)[:, [(off.shape[1] - 1) // 2]]
    weights = counts / np.maximum(distance, SAME) ** 2
    amidst = np.einsum("nk,nkc->nc", weights, around) / weights.sum(1, keepdims=True)
    return np.where(distance[:, :1] < SAME, around[:, 0], amidst).astype(np.float32)


def unit32(rows: ArrayLike) -> Floats:
    """Rows of unit length along the last axis, float32; a zero row stays zero."""
    matrix = np.asarray(rows, dtype=np.float32)
    length = np.linalg.norm(matrix, axis=-1, keepdims=True)
    return np.divide(matrix, np.where(length > 0, length, 1), dtype=np.float32)


def _principal(rows: Floats) -> tuple[Floats, Floats]:
    """The rows' mean (D,), and their principal directions (D, d)."""
    centre, _, vectors = pca_map.decomposition(rows)
    return centre.astype(np.float32), vectors[:, :DIMENSION].astype(np.float32)


def _reduced(rows: Floats, centre: Floats, axes: Floats) -> Floats:
    return np.asarray((rows - centre) @ axes, dtype=np.float32)


def _nearest(points: Floats, queries: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Indices and distances (n, k) of the fitted points nearest to queries."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(points)), algorithm="brute")
    distance, index = search.fit(points).kneighbors(queries)
    return index, distance


def _flat(points: Floats) -> NDArray[Any]:
    if points.shape[1] < 2:
        return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    return pca_map.apply(pca_map.principal_axes(points), points)


def _tsne(points: Floats, seed: int, advance: Callable[[float], object] | None) -> NDArray[Any]:
    from openTSNE import TSNE

    def report(*_: object) -> None:
        if advance is not None:
            advance(_EACH)

    # By several threads it would depend on their number, and take longer on a busy machine.
    tsne = TSNE(
        perplexity=min(PERPLEXITY, len(points) // 4),
        early_exaggeration_iter=ITERATIONS // 3,
        n_iter=ITERATIONS - ITERATIONS // 3,
        random_state=seed,
        n_jobs=1,
        callbacks=report,
        callbacks_every_iters=_EACH,
    )
    return np.asarray(tsne.fit(points))


def _scaled(flat: NDArray[Any]) -> Floats:
    """(n, 2) in about [-1, 1]."""
    low, high = np.quantile(flat, INSIDE, axis=0)
    half = (high - low).max() / 2 / EDGE
    scaled: Floats = ((flat - (low + high) / 2) / (half if half > 0 else 1)).astype(np.float32)
    return scaled
