"""What can be learnt from several models' predictions of one structure, and from some labels.

The spread of an ensemble as a measure of its error: Behler, Int. J. Quantum Chem. 115, 1032 (2015);
Podryabinkin and Shapeev, Comput. Mater. Sci. 140, 171 (2017). Calibration: split conformal
prediction with scores in units of an expected error (Papadopoulos et al., ECML 2002; Lei et al., J.
Am. Stat. Assoc. 113, 1094, 2018), here with compositions as the groups that are exchangeable, each
of the same weight (Dunn, Wasserman and Ramdas, J. Am. Stat. Assoc. 118, 2491, 2023).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FLOOR = 1e-3  # eV/Å: forces are not told apart below
FOLDS = 5  # of compositions: each is judged by labels of others
FEWEST = 30  # labelled compositions from which an expected error is learnt


def energy_differences(energies: Floats, compositions: Floats) -> Floats:
    """(models, structures) eV an atom: how far each is from the mean of all, references apart.

    energies: (models, structures) eV an atom. compositions: (structures, elements), shares.

    Models count energies from references of their own. What a composition explains linearly of a
    difference may be the references, and is taken out by least squares over the other structures
    (the leave-one-out residual). NaN for a structure without which no reference of one of its
    elements would be known.
    """
    differences = energies - energies.mean(axis=0)
    used = compositions[:, compositions.any(axis=0)]
    gram = np.linalg.pinv(used.T @ used, hermitian=True)
    left = differences - (differences @ used) @ gram @ used.T
    leverage = np.einsum("se,ef,sf->s", used, gram, used)
    free = 1 - leverage
    found: Floats = np.where(free > 1e-6, left / np.where(free > 1e-6, free, 1), np.nan)
    return found


class Judgement(NamedTuple):
    """Of n rows the error to be expected, and a bound that it keeps with some probability; (n,).

    In the units of the errors. NaN where there are too few labels of other compositions.
    """

    expected: Floats
    bound: Floats


def judge(
    features: Floats, errors: Floats, groups: NDArray[np.integer[Any]], coverage: float = 0.9
) -> Judgement:
    """The errors of rows, from those of other compositions.

    features: (n, d) of about the size of an error, not negative, the spread first; NaN where not
    known. errors: (n,), NaN where there is no label. groups: (n,) the hash of each composition.

    Compositions fall into five parts. The rows of one are judged by the labels of the others: two
    parts fit log error = a + b · log features (ridge), two measure how far errors exceed that. So
    no row is judged by its own label, nor by one of its composition.
    """
    logs = np.log(np.maximum(features, 0) + FLOOR)
    targets = np.log(errors + FLOOR)
    fold, is_labelled = groups % FOLDS, np.isfinite(errors)
    found = Judgement(np.full(len(errors), np.nan), np.full(len(errors), np.nan))
    for part in np.unique(fold):
        after = (fold - part) % FOLDS
        own, fit, rest = (np.isin(after, parts) for parts in ((0,), (1, 2), (3, 4)))
        fit, rest = fit & is_labelled, rest & is_labelled
        if not rest.any():
            continue
        scale = _scale(logs, targets, fit, groups)
        scores = errors[rest] / scale[rest]
        factor = conformal_factor(scores, groups[rest], coverage)
        middle = conformal_factor(scores, groups[rest], 0.5)
        found.expected[own], found.bound[own] = middle * scale[own], factor * scale[own]
    return found


def conformal_factor(scores: Floats, groups: NDArray[np.integer[Any]], coverage: float) -> float:
    """What a score of another group is below with this probability; NaN for too few groups.

    scores: (n,). groups: (n,) what is exchangeable; each group has the same weight.
    """
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(1 / counts[place][order])
    row = np.searchsorted(reached, coverage * (len(counts) + 1) - 1e-9)
    return float(scores[order][row]) if row < len(scores) else float("nan")


def _scale(
    logs: Floats, targets: Floats, fit: NDArray[np.bool_], groups: NDArray[np.integer[Any]]
) -> Floats:
    """(n,) the error that the labelled rows `fit` make expected; with few of them the spread."""
    names, place, counts = np.unique(groups[fit], return_inverse=True, return_counts=True)
    if len(names) < FEWEST:
        return np.asarray(np.exp(logs[:, 0]))
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    steps = SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
    model = make_pipeline(*steps, Ridge(1.0))
    model.fit(logs[fit], targets[fit], ridge__sample_weight=1 / counts[place])
    return np.asarray(np.exp(model.predict(logs)))
