"""PCA to two dimensions, for plots."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Axes(NamedTuple):
    """The two directions along which points vary most.

    Attributes:
        centre: (D,) float64, the points' mean.
        components: (D, 2) float64, orthonormal columns.
        explained: (2,) float64, each one's share of the variance.
    """

    centre: NDArray[np.float64]
    components: NDArray[np.float64]
    explained: NDArray[np.float64]


def principal_axes(points: ArrayLike) -> Axes:
    """PCA to two dimensions, with the sign that makes each column's largest entry positive.

    Args:
        points: (n, D), n ≥ 1 and D ≥ 2.

    Raises:
        ValueError: points not of that shape.
    """
    rows = np.asarray(points)
    if rows.ndim != 2 or len(rows) < 1 or rows.shape[1] < 2:
        raise ValueError(f"a map needs (n, D) points with n ≥ 1 and D ≥ 2, not {rows.shape}")
    centre, eigenvalues, vectors = decomposition(rows)
    total = eigenvalues.sum()
    explained = eigenvalues[:2] / total if total > 0 else np.zeros(2)
    return Axes(centre, vectors[:, :2], explained)


def decomposition(
    rows: NDArray[np.floating[Any]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The whole PCA of (n, D) rows, in blocks: memory beside them stays flat.

    Returns:
        The mean (D,), the scatter along each direction (D,), largest first, and the directions as
        columns (D, D), each with its largest entry positive; float64.
    """
    centre = rows.mean(0, dtype=np.float64)
    scatter = np.zeros((rows.shape[1],) * 2)
    for start in range(0, len(rows), 8_192):
        part = rows[start : start + 8_192] - centre
        scatter += part.T @ part
    eigenvalues, vectors = np.linalg.eigh(scatter)
    vectors = vectors[:, ::-1]
    signs = np.sign(vectors[np.abs(vectors).argmax(0), np.arange(len(vectors))])
    return centre, eigenvalues[::-1], vectors * signs


def apply(axes: Axes, points: ArrayLike) -> NDArray[np.float32]:
    """Positions of points on the map: (n, D) to (n, 2) float32."""
    rows = np.asarray(points)
    return (rows @ axes.components - axes.centre @ axes.components).astype(np.float32)
