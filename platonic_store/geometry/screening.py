"""What classes a candidate: consensus of several models, shared neighbours, contacts."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from platonic_store.geometry.coordination import pairs_within
from platonic_store.geometry.typicality import conformal_p

Floats = NDArray[np.float64]

REACH = 1.5  # of the sum of two covalent radii: farther atoms are no contact


def consensus_p(
    scores: ArrayLike, calibration: ArrayLike, is_member: ArrayLike | bool = False
) -> NDArray[np.float64]:
    """The share of a calibration that is at least as extreme to all models together.

    Of each model the conformal p; then the mean of −ln p over the models, compared with that of the
    calibration, which is valid however the models depend on each other (Vovk and Wang, Biometrika
    107, 791, 2020, on merging; the comparison makes the merged value conformal again). For one
    model it is the conformal p.

    Args:
        scores: (n, models), large is extreme. calibration: (c, models), scores of what is known not
            to be. is_member: (n,) bool, whether a row is itself one of the calibration's.

    Returns:
        (n,) within [1/(1 + c), 1].
    """
    own, usual = np.asarray(scores, dtype=np.float64), np.asarray(calibration, dtype=np.float64)
    if own.shape[1] == 1:
        return conformal_p(own[:, 0], usual[:, 0], is_member)
    return conformal_p(_surprise(own, usual, is_member), _surprise(usual, usual, True), is_member)


def cross_fitted_rate(scores: ArrayLike, limit: float, half: ArrayLike) -> float:
    """The share of a calibration whose `consensus_p`, by the other half alone, is at most `limit`.

    Args:
        scores: (c, models). half: (c,) bool; compositions must not be in both halves.
    """
    rows, first = np.asarray(scores), np.asarray(half, dtype=bool)
    if not 0 < first.sum() < len(first):
        return float("nan")
    p = np.empty(len(rows))
    for part in (first, ~first):
        p[part] = consensus_p(rows[part], rows[~part])
    return float((p <= limit).mean())


def disagreement(neighbours: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """1 − the share of an atom's nearest reference atoms that two models have in common.

    Args:
        neighbours: of each model (n, k), names of each atom's nearest, negative where there are
            fewer.

    Returns:
        (n,), the mean over pairs of models; NaN for a single model.
    """
    found = []
    for i, one in enumerate(neighbours):
        for other in neighbours[i + 1 :]:
            same = (one[:, :, None] == other[:, None, :]) & (one != NOBODY)[:, :, None]
            most = np.maximum((one != NOBODY).sum(1), (other != NOBODY).sum(1))
            found.append(1 - same.any(2).sum(1) / np.maximum(most, 1))
    return np.mean(found, axis=0) if found else np.full(len(neighbours[0]), np.nan)


NOBODY = np.iinfo(np.int64).min  # in the place of a neighbour that there is not


def shortest_contact(
    numbers: ArrayLike, positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike
) -> float:
    """The shortest distance of two atoms over the sum of their covalent radii.

    Radii of Cordero et al., Dalton Trans. 2008, 2832 (as in ASE; those that it lacks count 0.2 Å
    there). Periodic images count, an atom's own too.

    Args:
        numbers: (n,) atomic numbers. positions: (n, 3), Å. cell: (3, 3), Å, rows are vectors. pbc:
            (3,) bool.

    Returns:
        At most 1.5, which also stands for no contact at all.
    """
    from ase.data import covalent_radii

    radii = covalent_radii[np.asarray(numbers, dtype=int)]
    one, other, image, distance = pairs_within(positions, cell, pbc, float(2 * REACH * radii.max()))
    is_itself = (one == other) & ~np.any(image, axis=1)
    ratio = distance[~is_itself] / (radii[one] + radii[other])[~is_itself]
    return float(ratio.min(initial=REACH))


def _surprise(scores: Floats, calibration: Floats, is_member: ArrayLike | bool) -> Floats:
    """The mean over models of −ln p."""
    columns: list[Any] = [
        -np.log(conformal_p(one, usual, is_member))
        for one, usual in zip(scores.T, calibration.T, strict=True)
    ]
    return np.asarray(np.mean(columns, axis=0))
