"""Optimal transport between two models' atoms, and the map that it makes.

Two clouds of atoms, every atom of the same mass, at the cost 1 − cosine: the least mean cost at
which the one can be moved onto the other,

    W(x, y) = min over couplings P of sum_ij P_ij (1 − cos(x_i, y_j)),

half the squared 2-Wasserstein distance of their directions (Peyré and Cuturi, arXiv 1803.00567,
equation 2.11). Which atoms correspond is not given: the coupling estimates it.
"""

from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from platonic_store.geometry.neighbours import nearest, unit_rows
from platonic_store.geometry.sets import pot

Method = Literal["exact", "sinkhorn", "sliced"]
Plan: TypeAlias = NDArray[np.float32] | csr_array

EXACT = 8_000  # atoms: five matrices of that size squared in double, 2.6 GiB
ENTROPIC = 12_000  # atoms: four in single
ENTROPY = 0.05  # in units of the cost, which is at most 2: e^(2 / 0.05) fits single precision
PROJECTIONS = 200
SHUFFLES = 199
CHUNK = 2_048


class Transport(NamedTuple):
    """A coupling and its cost.

    plan: (n, m) masses, one in total, an array or a sparse one; the least cost that any coupling
    has lies between `cost` and `cost + error`, both without dimension.
    """

    plan: Plan
    cost: float
    error: float
    method: Method


class Share(NamedTuple):
    """How much mass stays in its class, how much would by the uniform coupling, and the 95 % point
    of what does where the targets' classes are shuffled."""

    share: float
    chance: float
    null: float


class BarycentricMap(NamedTuple):
    """source: (n, D) unit vectors; shift: (n, D), the vector that moves each."""

    source: NDArray[np.float32]
    shift: NDArray[np.float32]


def transport(
    x: ArrayLike, y: ArrayLike, *, method: Method | None = None, seed: int = 0
) -> Transport:
    """Move one cloud onto another.

    "exact" is network simplex (POT's `emd`; Bonneel et al., ACM TOG 30, 158, 2011), `error` its
    duality gap, which is rounding. "sinkhorn" adds entropy (Cuturi, arXiv 1306.0895; Altschuler
    et al., arXiv 1705.09634): `cost` is the dual value of its potentials made feasible, `error`
    the gap to its plan; the plan is blurred, so that less of it stays where it belongs. "sliced"
    sorts along random lines: `cost` is D times the squared sliced distance over two, less two
    Monte-Carlo standard errors, a lower bound and in many dimensions a very low one; the plan is
    that of the best line (Mahey et al., arXiv 2307.01770), `error` the gap between the two.

    Args:
        x, y: (n, D) and (m, D), finite; only directions count.
        method: by default the first of the three that fits: exact up to 8,000 atoms, sinkhorn up
            to 12,000, both within 3 GiB; sliced beyond, in memory of the clouds' own size.
        seed: of the sliced lines.

    Raises:
        ValueError: an unknown method, or clouds that are empty or of different dimension.
    """
    u, v = unit_rows(x), unit_rows(y)
    if not len(u) or not len(v) or u.shape[1] != v.shape[1]:
        raise ValueError(f"cannot move {u.shape} onto {v.shape}: need atoms of equal features")
    n = max(len(u), len(v))
    method = method or ("exact" if n <= EXACT else "sinkhorn" if n <= ENTROPIC else "sliced")
    if method == "exact":
        return _exact(u, v)
    if method == "sinkhorn":
        return _sinkhorn(u, v)
    if method == "sliced":
        return _sliced(u, v, seed)
    raise ValueError(f"unknown method '{method}', choose one of {', '.join(get_args(Method))}")


def share(plan: Plan, source: ArrayLike, target: ArrayLike, *, seed: int = 0) -> Share:
    """How much of the mass goes from a class to the same class: an atom, an element, a group.

    Args:
        plan: (n, m), from `transport`.
        source, target: (n,) and (m,) integers or strings, the class of each atom.
        seed: of the 199 shuffles of the target's classes.
    """
    s, t = np.asarray(source), np.asarray(target)
    names, number = np.unique(np.concatenate([s, t]), return_inverse=True)
    s, t = number[: len(s)], number[len(s) :]
    leaving = csr_array((np.ones(len(s)), (s, np.arange(len(s)))), shape=(len(names), len(s)))
    arriving, column = leaving @ plan, np.arange(len(t))
    total = plan.sum()

    def staying(classes: NDArray[np.int64]) -> float:
        return float(arriving[classes, column].sum() / total)

    counts = [np.bincount(classes, minlength=len(names)) / len(classes) for classes in (s, t)]
    rng = np.random.default_rng(seed)
    shuffled = [staying(rng.permutation(t)) for _ in range(SHUFFLES)]
    return Share(staying(t), float(counts[0] @ counts[1]), float(np.quantile(shuffled, 0.95)))


def cost_paired(x: ArrayLike, y: ArrayLike) -> float:
    """Mean 1 − cosine of each row of x and that row of y: the cost of the identity coupling."""
    return float(1 - np.einsum("ij,ij->i", unit_rows(x), unit_rows(y)).mean())


def cost_by_chance(x: ArrayLike, y: ArrayLike) -> float:
    """Mean 1 − cosine of any row of x and any of y: the cost of the uniform coupling."""
    return float(1 - unit_rows(x).mean(0) @ unit_rows(y).mean(0))


def spread(x: ArrayLike) -> float:
    """Mean 1 − cosine of two different rows; NaN of fewer than two."""
    u = unit_rows(x)
    n = len(u)
    return float(1 - (np.square(u.sum(0)).sum() - n) / (n * (n - 1))) if n > 1 else float("nan")


def barycentric_map(
    x: ArrayLike, y: ArrayLike, classes: ArrayLike, *, seed: int = 0
) -> BarycentricMap:
    """Where transport takes each atom of x: the mean of its targets, weighted by the coupling.

    Each class (say, element) is moved onto the same class of y by itself. That both clouds are of
    the same atoms is used, but not which atoms correspond.

    Args:
        x, y: (n, D) and (n, D), n atoms each; of every class as many.
        classes: (n,), of the atoms of both.
        seed: as in `transport`.

    Returns:
        What `carry` takes (Ferradans et al., arXiv 1307.5551, equation 16, gives the images).
    """
    u, v, labels = unit_rows(x), unit_rows(y), np.asarray(classes)
    shift = np.empty(u.shape, dtype=np.float32)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        plan = transport(u[rows], v[rows], seed=seed).plan
        shift[rows] = (plan @ v[rows]) / plan.sum(1)[:, None] - u[rows]
    return BarycentricMap(u.astype(np.float32), shift)


def carry(fitted: BarycentricMap, rows: ArrayLike, k: int = 3) -> NDArray[np.float32]:
    """Move atoms that the map was not fitted to, each by the mean shift of its k nearest sources.

    Args:
        fitted: from `barycentric_map`.
        rows: (q, D), of the model whose atoms the map moves.
        k: how many sources.

    Returns:
        (q, D) float32, directions moved; compare them by cosine.
    """
    u = unit_rows(rows)
    index, _ = nearest(u, fitted.source, k)
    moved: NDArray[np.float64] = u + fitted.shift[index].mean(1)
    return moved.astype(np.float32)


def _exact(u: NDArray[np.float64], v: NDArray[np.float64]) -> Transport:
    cost = _costs(u, v, np.float64)
    plan, log = pot().emd(*_masses(u, v), cost, numItermax=10_000_000, log=True)
    lower = _dual(cost, log["v"])
    return Transport(csr_array(plan), lower, max(0.0, log["cost"] - lower), "exact")


def _sinkhorn(u: NDArray[np.float64], v: NDArray[np.float64]) -> Transport:
    cost = _costs(u, v, np.float32)
    a, b = (mass.astype(np.float32) for mass in _masses(u, v))
    plan, log = pot().sinkhorn(
        a, b, cost, ENTROPY, numItermax=500, stopThr=1e-6, log=True, warn=False
    )
    plan *= np.minimum(1, a / plan.sum(1))[:, None]
    plan *= np.minimum(1, b / plan.sum(0))
    missing = max(0.0, 1 - float(plan.sum(dtype=np.float64)))  # at worst it costs 2
    upper = np.einsum("ij,ij->", plan, cost, dtype=np.float64) + 2 * missing
    lower = _dual(cost, ENTROPY * np.log(np.maximum(log["v"], 1e-37)))
    return Transport(plan, lower, float(upper - lower), "sinkhorn")


def _sliced(u: NDArray[np.float64], v: NDArray[np.float64], seed: int) -> Transport:
    ot = pot()
    _, log = ot.sliced_wasserstein_distance(u, v, n_projections=PROJECTIONS, seed=seed, log=True)
    squared = u.shape[1] * np.asarray(log["projected_emds"]) / 2
    lower = max(0.0, squared.mean() - 2 * squared.std(ddof=1) / np.sqrt(PROJECTIONS))
    plan, upper = ot.min_sliced_transport_plan(
        u, v, n_projections=PROJECTIONS, seed=seed, batch_size=1, dense=False
    )
    return Transport(csr_array(plan), float(lower), float(upper / 2 - lower), "sliced")


def _masses(
    u: NDArray[np.float64], v: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.full(len(u), 1 / len(u)), np.full(len(v), 1 / len(v))


def _costs(u: NDArray[np.float64], v: NDArray[np.float64], precision: Any) -> NDArray[Any]:
    cost: NDArray[Any] = u.astype(precision) @ v.astype(precision).T
    np.subtract(1, cost, out=cost)
    np.maximum(cost, 0, out=cost)
    return cost


def _dual(cost: NDArray[Any], potential: NDArray[Any]) -> float:
    """The dual value of a potential of the targets, made feasible by two c-transforms.

    Peyré and Cuturi, arXiv 1803.00567, equation 5.1: never above the least cost.
    """
    parts = [slice(start, start + CHUNK) for start in range(0, len(cost), CHUNK)]
    g = np.full(cost.shape[1], np.inf)
    f = np.concatenate([(cost[part] - potential).min(1) for part in parts]).astype(np.float64)
    for part in parts:
        np.minimum(g, (cost[part] - f[part, None]).min(0), out=g)
    return float(f.mean() + g.mean())
