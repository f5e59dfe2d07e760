"""For screen.py: what ManiFish measures of a generated structure, by its published definitions.

ManiFish (github.com/lizhenzhupearl/ManiFish, documents `fish_categories` and `spatial_metrics`) is
of the authors of arXiv 2512.05349. Measures are of whole structures by their mean embedding, or in
its anchor space by the cosines of that with anchors. Every score here is large for what ManiFish
would distrust.
"""

import itertools

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

NEIGHBOURS = 10
BINS = np.array([0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0])


def scores(points: np.ndarray, known: np.ndarray, regions: np.ndarray) -> dict[str, np.ndarray]:
    """Each measure of (n, D) points against (m, D) known ones; regions (m,) integers."""
    rng = np.random.default_rng(0)
    found = {
        "boundary (one-class SVM)": -_boundary(points, known),
        "local outlier factor": -LocalOutlierFactor(n_neighbors=NEIGHBOURS, novelty=True)
        .fit(known)
        .score_samples(points),
        "distance to 10 nearest": _near(known, NEIGHBOURS, points)[0].mean(axis=1),
        "depth": np.linalg.norm(points - known.mean(axis=0), axis=1),
        "local PCA residual": _residual(points, known),
    }
    spatial = np.array([_spatial(point, known, regions, rng) for point in points])
    for name, column in zip(("LDS", "CDS", "SRSS", "RMSC"), spatial.T, strict=True):
        found[name] = column if name == "RMSC" else -column
    scales, weights = np.array([2, 1, 2, 0.5]), np.array([0.3, 0.3, 0.2, 0.2])
    found["spatial quality"] = -((2 / (1 + np.exp(-spatial / scales)) - 1) @ weights)
    return found


def hallucinated(points: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(n,) bool: its category "structural hallucination", by its default thresholds."""
    factor = LocalOutlierFactor(n_neighbors=NEIGHBOURS, novelty=True).fit(known)
    spread = _boundary(known, known).std()
    is_far = _boundary(points, known) / spread < -0.2
    return np.asarray(is_far | (factor.score_samples(points) < -1.5))


def _boundary(points: np.ndarray, known: np.ndarray) -> np.ndarray:
    scaler = StandardScaler().fit(known)
    machine = OneClassSVM(kernel="rbf", gamma="auto", nu=0.1).fit(scaler.transform(known))
    return np.asarray(machine.decision_function(scaler.transform(points)))


def _near(known: np.ndarray, k: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    distance, index = NearestNeighbors(n_neighbors=k).fit(known).kneighbors(points)
    return distance, index


def _residual(points: np.ndarray, known: np.ndarray) -> np.ndarray:
    """What the principal components around the nearest known point leave, over their spread."""
    size = 2 * NEIGHBOURS
    nearest = _near(known, 1, points)[1][:, 0]
    around = _near(known, size, known[nearest])[1][:, 1:]
    residual = np.empty(len(points))
    for row, (point, rows) in enumerate(zip(points, known[around], strict=True)):
        pca = PCA(n_components=min(rows.shape[1] - 1, len(rows) - 1)).fit(rows)
        gap = point - pca.mean_
        left = np.linalg.norm(gap - gap @ pca.components_.T @ pca.components_)
        residual[row] = left / max(rows.std(), 0.1)
    return residual


def _spatial(
    point: np.ndarray, known: np.ndarray, regions: np.ndarray, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """LDS, CDS, SRSS and RMSC of one point."""
    distance = cdist(point[None], known)[0]
    cosine = known @ point / (np.linalg.norm(known, axis=1) * np.linalg.norm(point) + 1e-12)
    order = np.argsort(distance)
    far = np.flatnonzero(distance > distance.max() / 2)
    far = far if len(far) else order[len(order) // 2 :]
    local = cosine[order[1 : NEIGHBOURS + 1]].mean()
    lds = _ratio(local, cosine[_some(far, 100, rng)].mean())
    binned = [
        _some(np.flatnonzero((distance > low) & (distance <= high)), 50, rng)
        for low, high in itertools.pairwise(BINS)
    ]
    rows = np.concatenate(binned)
    rows = rows[(cosine[rows] > 1e-10) & (distance[rows] > 1e-10)]
    slope = -np.polyfit(distance[rows], np.log(cosine[rows]), 1)[0] if len(rows) > 4 else 0.0
    own = regions == regions[order[0]]
    same, other = (_some(np.flatnonzero(one), 50, rng) for one in (own, ~own))
    srss = _ratio(cosine[same].mean(), cosine[other].mean()) if len(other) else 1.0
    rmsc = np.sqrt(known[order[: 2 * NEIGHBOURS]].var(axis=0).mean())
    return lds, max(slope, 0.0), srss, float(rmsc)


def _some(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(rng.choice(rows, min(count, len(rows)), replace=False))


def _ratio(one: float, other: float) -> float:
    return one / other if other > 1e-10 else 10 * one
