"""Typicality: how near an atom lies to those of a reference set.

Typicality is not confidence. It tells random structures from real ones, but says little about a
model's error on structures of the kind it was trained on.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from platonic_store.geometry.neighbours import Metric, nearest, without_self


def knn_distance(
    points: ArrayLike,
    reference: ArrayLike,
    k: int = 5,
    *,
    exclude_self: bool = False,
    metric: Metric = "euclidean",
) -> NDArray[np.float64]:
    """Mean distance of each point to its k nearest reference rows: small is typical.

    Typicality is not confidence: a typical atom can be described wrongly, an atypical one well.

    Args:
        points: (n, D).
        reference: (m, D).
        k: how many neighbours to average.
        exclude_self: the points are the reference, row for row: an atom is not its own neighbour.
        metric: as in `neighbours.distances`.

    Returns:
        (n,) float64.

    Raises:
        ValueError: fewer than k reference rows (beside the atom itself), or points that are not
            the reference though `exclude_self` says so.
    """
    rows = np.asarray(reference)
    n, available = len(np.asarray(points)), len(rows)
    if exclude_self and n != available:
        raise ValueError(f"exclude_self: {n} points cannot be the {available} reference rows")
    if not 1 <= k <= available - exclude_self:
        raise ValueError(f"cannot average {k} neighbours among {available - exclude_self} others")
    index, distance = nearest(points, rows, k + exclude_self, metric=metric)
    if exclude_self:
        distance = without_self(index, distance)
    return distance.mean(1)


def conformal_p(scores: ArrayLike, calibration_scores: ArrayLike) -> NDArray[np.float64]:
    """Conformal p-value of each score: (1 + #{calibration ≥ score}) / (1 + n).

    If a score is exchangeable with the calibration's, P(p ≤ α) ≤ α for every α (Vovk, Gammerman
    and Shafer 2005; Bates et al., Ann. Stat. 51, 149, 2023). A small p says atypical. It is no
    statement of confidence in what a model predicts there.

    Args:
        scores: (n,), large is atypical.
        calibration_scores: (m,), of typical atoms that had no part in the reference.

    Returns:
        (n,) float64 within [1/(1+m), 1].

    Raises:
        ValueError: no calibration scores, or NaN among either.
    """
    values = np.asarray(scores, dtype=np.float64)
    calibration = np.sort(np.asarray(calibration_scores, dtype=np.float64))
    if not len(calibration):
        raise ValueError("a conformal p-value needs calibration scores")
    if np.isnan(values).any() or np.isnan(calibration).any():
        raise ValueError("scores contain NaN")
    at_least = len(calibration) - np.searchsorted(calibration, values, side="left")
    return (1 + at_least) / (1 + len(calibration))


def nearest_elsewhere(
    points: ArrayLike, groups: ArrayLike, k: int, *, metric: Metric = "cosine"
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Each point's k nearest points of other groups: an atom's neighbours in other structures.

    Args:
        points: (n, D).
        groups: (n,) integers.
        k: how many neighbours; at least k points must lie outside every group.
        metric: as in `neighbours.distances`.

    Returns:
        distances (n, k) float64 and indices (n, k) int64, nearest first.

    Raises:
        ValueError: a group beside which there are fewer than k points.
    """
    rows, labels = np.asarray(points), np.unique(np.asarray(groups), return_inverse=True)[1]
    sizes = np.bincount(labels)[labels]
    if len(rows) - sizes.max(initial=0) < k:
        raise ValueError(f"a group leaves fewer than {k} points beside it")
    distance, index = np.empty((len(rows), k)), np.empty((len(rows), k), dtype=np.int64)
    for size in np.unique(sizes):
        asked = np.flatnonzero(sizes == size)
        # However many of its own group come first, k + size nearest hold k others.
        found, values = nearest(rows[asked], rows, k + int(size), metric=metric)
        own = labels[found] == labels[asked][:, None]
        first = np.argsort(own, axis=1, kind="stable")[:, :k]
        distance[asked] = np.take_along_axis(values, first, axis=1)
        index[asked] = np.take_along_axis(found, first, axis=1)
    return distance, index
