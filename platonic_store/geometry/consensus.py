"""A consensus of several models about the anchors: what the recipe `aligned` maps every model to.

Regularised kernel generalised canonical correlation (MAXVAR: Kettenring, Biometrika 58, 433, 1971,
equation 3.1; with kernels Bach and Jordan, JMLR 3, 1, 2002). Each model m has a Gaussian kernel
between the K anchors, K_m, and a ridge smoother P_m = K_m (K_m + λK)^-1. The consensus is the d
orthogonal columns that all smoothers together keep best, the leading eigenvectors of their mean.
A model enters by kernel ridge regression from its own embeddings to them: its similarities to the
anchors, as in the paper, times a matrix. A model that comes later, or a control, enters likewise
and changes nothing.
"""

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from platonic_store.geometry.anchors import random_rows
from platonic_store.geometry.projection import (
    Projection,
    fit,
    gaussian,
    kernel_width,
    project,
    roots,
    side_by_side,
)
from platonic_store.geometry.retrieval import retrieval

LAMBDAS = (1e-6, 1e-5, 1e-4, 1e-3)
# Below the smallest λ a network that was never trained can agree too; docs/recipes.md, controls.
SMALLEST = min(LAMBDAS)
DIMENSION = 256
FOLDS = 3
ENOUGH = 1024  # anchors to choose λ by: the cost grows with their cube
# Coordinates that models explain in part count less: by the share explained, to this power.
SHARPNESS = 8

Floats = NDArray[np.float64]


class Joining(NamedTuple):
    """How a model joins a consensus. What it tells apart need not be what all agree on.

    penalty, width: of its regression, as parts of the consensus' own; roots: whether the roots of
    layers of squared lengths (TensorNet's first), a few of them large, are taken first.
    """

    penalty: float = 0.01
    width: float = 0.7
    roots: bool = True


LIKE_THE_CONSENSUS = Joining(penalty=1, width=1, roots=False)
SPARSE = 2048  # more anchors than that are told apart by a narrower kernel


def joining_with(anchors: int) -> Joining:
    """How a model joins a consensus of so many anchors."""
    usual = Joining()
    return usual._replace(width=usual.width * min(1, (SPARSE / anchors) ** 0.25))


class Choice(NamedTuple):
    """The result of cross-validation.

    penalty: the λ that won, or None where the recipe `whitened` did.
    recalls: recall@1 of held-out anchors among one another, by λ and for "whitened", the mean over
        all ordered pairs of models and folds.
    anchors: how many it was found with.
    refined: recall@1 by λ with two thirds of all anchors, where there are more.
    """

    penalty: float | None
    recalls: dict[str, float]
    anchors: int
    refined: dict[str, float] | None = None


def consensus(
    embeddings: Sequence[ArrayLike], penalty: float, dimension: int = DIMENSION
) -> Floats:
    """Coordinates of the anchors on which the models agree.

    Args:
        embeddings: of each model (K, D_m), the same anchors in the same order, at least four.
        penalty: λ above.
        dimension: how many coordinates, at most K // 2.

    Returns:
        (K, d) float64, d = min(dimension, K // 2), columns centred, orthogonal, and scaled by the
        share of them that the models explain, to the power of SHARPNESS. Signs are fixed: the
        largest entry of a column is positive.

    Raises:
        ValueError: the models have not the same number of anchors, or fewer than four.
    """
    from scipy.linalg import eigh

    rows = [np.asarray(one, dtype=np.float64) for one in embeddings]
    k = len(rows[0])
    if k < 4 or any(len(one) != k for one in rows):
        counts = [len(one) for one in rows]
        raise ValueError(f"need at least 4 anchors, as many for every model, not {counts}")
    kept = _smoother(rows[0], penalty) / len(rows)
    for one in rows[1:]:
        kept += _smoother(one, penalty) / len(rows)
    kept -= kept.mean(0)
    kept -= kept.mean(1)[:, None]
    d = min(dimension, k // 2)
    share, axes = eigh(kept, subset_by_index=[k - d, k - 1], overwrite_a=True)
    share, axes = np.clip(share[::-1], 0, 1), axes[:, ::-1]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(d)])
    coordinates: Floats = axes * np.sqrt(k) * share**SHARPNESS
    return coordinates


def join(
    anchors: ArrayLike | list[Any],
    targets: ArrayLike,
    penalty: float,
    joining: Joining | None = None,
) -> Projection:
    """A model's projection to a consensus: kernel ridge regression on its anchors.

    Args:
        anchors: (K, D), the model's embeddings of the anchors, or of several layers a list of such.
        targets: (K, d), from `consensus`, of the layers `side_by_side`.
        penalty: the consensus' λ.
        joining: by default as suits the number of anchors.
    """
    from scipy.linalg import cho_factor, cho_solve

    coordinates = np.asarray(targets, dtype=np.float64)
    joining = joining or joining_with(len(coordinates))
    layers = [np.asarray(one) for one in (anchors if isinstance(anchors, list) else [anchors])]
    squared = np.concatenate(
        [np.full(one.shape[1], joining.roots and _squares(one)) for one in layers]
    )
    widths = np.cumsum([one.shape[1] for one in layers])[:-1]
    parts = np.split(roots(np.concatenate(layers, axis=1), squared), widths, axis=1)
    rows, centre, scale = side_by_side(parts)
    width = joining.width * kernel_width(rows)
    ridge = gaussian(rows, rows, width)
    ridge[np.diag_indices(len(rows))] += joining.penalty * penalty * len(rows)
    factor = cho_factor(ridge, lower=True, overwrite_a=True)
    weights = cho_solve(factor, coordinates)
    taken = squared if squared.any() else None
    return Projection("aligned", centre, None, rows, width, weights, scale, taken)


def _squares(layer: NDArray[Any]) -> bool:
    """Whether the numbers are squared lengths: never negative, and down to nearly zero."""
    return bool((layer >= 0).all() and 10 * layer.min(0).sum() < layer.mean(0).sum())


def choose(embeddings: Sequence[ArrayLike], groups: ArrayLike) -> Choice:
    """λ by cross-validation on the anchors alone, groups (compositions) held out whole.

    The score is recall@1 across models: a held-out anchor's coordinates by one model are searched
    among those of all anchors held out with it, by another model. Ties go to the larger λ. Where
    `whitened` scores better than every λ, it is chosen.

    Args:
        embeddings: of each of at least two models (K, D_m), the same anchors in the same order.
        groups: (K,) labels.

    Raises:
        ValueError: fewer than two models.
    """
    if len(embeddings) < 2:
        raise ValueError("need at least 2 models")
    labels = np.asarray(groups).astype(str)
    few = np.sort(random_rows(np.arange(len(labels)), min(ENOUGH, len(labels)), seed=0))
    models = [np.asarray(one)[few] for one in embeddings]
    folds = _folds(labels[few])
    found: dict[str, list[float]] = {}
    for fold in range(FOLDS):
        out = folds == fold
        if out.sum() < 2 or (~out).sum() < 4:
            continue
        for name, projections in _candidates([one[~out] for one in models]).items():
            found.setdefault(name, []).append(_recall(projections, [one[out] for one in models]))
    recalls = {name: float(np.mean(scores)) for name, scores in found.items()}
    best = max(recalls, key=lambda name: recalls[name], default="whitened")
    return Choice(None if best == "whitened" else float(best), recalls, len(few))


def refine(embeddings: Sequence[ArrayLike], groups: ArrayLike, choice: Choice) -> Choice:
    """The choice for all anchors, where there are more than it was made with.

    More anchors want a smaller λ: it is divided by ten as long as that finds more of a third of all
    anchors, groups held out whole, down to the smallest. Arguments as of `choose`.
    """
    labels = np.asarray(groups).astype(str)
    if choice.penalty is None or choice.penalty <= SMALLEST or len(labels) <= choice.anchors:
        return choice
    models = [np.asarray(one) for one in embeddings]
    out = _folds(labels) == 0
    asked, anchors = [one[out] for one in models], [one[~out] for one in models]
    refined: dict[str, float] = {}
    best = penalty = choice.penalty
    while penalty >= SMALLEST:
        refined[f"{penalty:g}"] = _recall(_joined(anchors, penalty), asked)
        if refined[f"{penalty:g}"] < refined[f"{best:g}"]:
            break
        best, penalty = penalty, float(f"{penalty / 10:g}")
    return choice._replace(penalty=best, refined=refined)


def _joined(anchors: list[NDArray[Any]], penalty: float) -> list[Projection]:
    targets = consensus(anchors, penalty)
    return [join(one, targets, penalty) for one in anchors]


def _recall(projections: list[Projection], asked: list[NDArray[Any]]) -> float:
    """recall@1 of the same atoms among one another, the mean over all ordered pairs of models."""
    spaces = [project(p, one) for p, one in zip(projections, asked, strict=True)]
    return float(np.mean([retrieval(a, b, 1) for a, b in permutations(spaces, 2)]))


def _candidates(anchors: list[NDArray[Any]]) -> Mapping[str, list[Projection]]:
    """Each recipe's projections of all models: `whitened`, then λ from large to small."""
    found = {"whitened": [fit("whitened", one) for one in anchors]}
    for penalty in reversed(LAMBDAS):
        found[f"{penalty:g}"] = _joined(anchors, penalty)
    return found


def _folds(groups: NDArray[np.str_]) -> NDArray[np.int64]:
    """The fold of each row: groups in an order that does not depend on the rows', dealt out."""
    names, which = np.unique(groups, return_inverse=True)
    place = np.empty(len(names), dtype=np.int64)
    place[random_rows(names.tolist(), len(names), seed=0)] = np.arange(len(names))
    return place[which] % FOLDS


def _smoother(anchors: Floats, penalty: float) -> Floats:
    """K (K + λn)^-1 = 1 - λn (K + λn)^-1, in memory of two such matrices."""
    from scipy.linalg import cho_factor, lapack

    n = len(anchors)
    rows = anchors - anchors.mean(0)
    kernel = gaussian(rows, rows, kernel_width(rows))
    kernel[np.diag_indices(n)] += penalty * n
    factor, _ = cho_factor(kernel, lower=True, overwrite_a=True)
    smoother: Floats = np.tril(lapack.dpotri(factor, lower=True, overwrite_c=True)[0])
    smoother += np.tril(smoother, -1).T
    smoother *= -penalty * n
    smoother[np.diag_indices(n)] += 1
    return smoother
