"""Anchors: K reference atoms, the same for every model, that coordinates are measured from.

Each function takes rows of embeddings and returns the positions of the rows that it chose. An
anchor is an atom: the caller maps positions to (structure_id, site_index) and keeps those.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]
Indices = NDArray[np.int64]

CHUNK = 16_384  # rows held in double precision at once


def direct(
    embeddings: ArrayLike, k: int, *, keys: Sequence[Any] | NDArray[Any] | None = None
) -> Indices:
    """DIRECT sampling: k rows that cover the space the embeddings span.

    After Qi, Ko, Wood, Pham and Ong, npj Comput. Mater. 10, 43 (2024), arXiv 2307.13710, section
    "DIRECT sampling": standardise the features; keep the principal components whose eigenvalue
    exceeds one (Kaiser); weight each by the variance it explains; cluster with BIRCH into k
    clusters; from each take the row nearest to the centroid.

    The same rows in any order give the same choice, in the same sequence: rows are first put in
    an order of their own and exact duplicates dropped. BIRCH is a compression of the rows into
    subclusters no wider than a threshold, then agglomerative (Ward) clustering of the subclusters'
    centroids. Here the compression is Gonzalez' farthest-point cover (1985), whose radius for a
    given number of subclusters is within a factor two of the smallest possible: so memory is
    bounded by choosing their number, max(2000, 4 k), and there is no threshold to choose. With
    fewer rows than that each row is its own subcluster and the clustering is Ward's, exactly.
    (MP-20, 11,466 atoms, SevenNet-0 layer 1, k = 100: mean distance to the nearest anchor 0.159,
    largest 0.56; maml's 0.202 and 0.98, shuffled 0.194 and 0.64 with 3 anchors in common.) Another
    processor may round the components differently and so choose otherwise between close rows.

    Args:
        embeddings: (n, D), finite; cast to float32.
        k: how many rows to choose.
        keys: (n,) strings or integers that name the rows, e.g. "mp-1234/0". They fix the order of
            the rows, so that noise in the last digits of a few embeddings does not reorder all.
            Without keys the rows' content fixes it.

    Returns:
        (k,) int64, positions of the chosen rows; among equal rows, the one whose key comes first.

    Raises:
        ValueError: embeddings not 2-D and finite, keys of another length, or fewer than k
            distinct rows.

    Time is O(n max(2000, 4 k) m) for m components kept; memory beside the embeddings is 4 n m
    bytes for the components and 8 max(2000, 4 k)^2 for Ward.
    """
    rows = _matrix(embeddings)
    order = _canonical_order(rows, keys)
    if not 1 <= k <= len(order):
        raise ValueError(f"cannot choose {k} anchors from {len(order)} distinct rows")
    if k == len(order):
        return order
    components = _weighted_components(rows, order)
    labels = _cover_then_ward(components, k)
    return order[np.sort(_nearest_to_centroid(components, labels, k))]


def direct_maml(embeddings: ArrayLike, k: int, *, threshold: float = 0.5) -> Indices:
    """DIRECT as `maml.sampling.direct.DIRECTSampler` does it, on the same rows in the same order.

    Equals `DIRECTSampler(structure_encoder=False, clustering=BirchClustering(n=k,
    threshold_init=threshold))` of maml 2025.4.3 with the same scikit-learn, including what differs
    from `direct`: the choice depends on the order of rows, a cluster's "centre" is that of its
    last subcluster rather than its centroid, and a cluster that no row is nearest to gives no
    anchor, so that fewer than k may come back.

    Memory is not bounded: Ward on s subclusters needs 8 s^2 bytes (4 s^2 of distances and a copy),
    and s is what the threshold makes of the data, up to n. A flat spectrum of 20,000 rows took
    3 GiB; the distances alone of 100,000 take 37 GiB. Time is a Python loop over rows, repeated
    at each lowering of the threshold.

    Args:
        embeddings: (n, D), finite; computed in the precision given, as maml does.
        k: number of clusters.
        threshold: BIRCH's first threshold, lowered until there are k clusters.

    Returns:
        (≤ k,) int64, positions of the chosen rows, in order of cluster label.

    Raises:
        ValueError: fewer than k rows remain distinct in the components kept (maml never returns).
    """
    from sklearn.cluster import Birch
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler().fit_transform(np.asarray(embeddings))
    pca = PCA().fit(scaled)
    kept = int(np.sum(pca.explained_variance_ > 1))
    components = pca.transform(scaled)[:, :kept] * pca.explained_variance_ratio_[:kept]
    if (distinct := len(np.unique(components, axis=0))) < k:
        raise ValueError(f"cannot choose {k} anchors from {distinct} distinct rows")

    def clustered(threshold: float) -> Birch:
        with warnings.catch_warnings():
            # "Decrease the threshold": that is what the loop does.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return Birch(n_clusters=k, threshold=threshold).fit(components)

    birch = clustered(threshold)
    while (found := len(np.unique(birch.subcluster_labels_))) < k:
        threshold = threshold / k * found
        birch = clustered(threshold)

    labels = birch.predict(components)
    last_centre = dict(zip(birch.subcluster_labels_, birch.subcluster_centers_, strict=True))
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        distance = np.linalg.norm(components[members] - last_centre[label], axis=1)
        chosen.append(members[np.argpartition(distance, 0)[0]])  # argmin breaks ties otherwise
    return np.array(chosen, dtype=np.int64)


def farthest_point(embeddings: ArrayLike, k: int) -> Indices:
    """Farthest-point sampling (Gonzalez 1985): each next row is farthest from those before.

    Starts at the row farthest from the mean; among equals the first wins. The first j of k are
    the choice for j. Euclidean; O(n k D) time and O(n) memory beside a float32 embeddings array.

    Args:
        embeddings: (n, D), finite; cast to float32.
        k: how many rows to choose, at most n.

    Returns:
        (k,) int64, positions in the order chosen.

    Raises:
        ValueError: embeddings not 2-D and finite, or k not in 1…n.
    """
    rows = _matrix(embeddings)
    if not 1 <= k <= len(rows):
        raise ValueError(f"cannot choose {k} anchors from {len(rows)} rows")
    return _cover(rows, k)[0]


def random_rows(keys: Sequence[Any] | NDArray[Any], k: int, seed: int) -> Indices:
    """k rows at random, by content: those whose hash of (seed, key) is smallest.

    The same keys give the same choice in any order, on any machine, under any version of numpy.

    Args:
        keys: (n,) distinct strings or integers that name the rows.
        k: how many to choose, at most n.
        seed: another seed, another choice.

    Returns:
        (k,) int64, positions in the order of their hashes.

    Raises:
        ValueError: k not in 1…n, or a key that occurs twice.
    """
    if not 1 <= k <= len(keys):
        raise ValueError(f"cannot choose {k} anchors from {len(keys)} rows")
    digests = hashes(keys, seed)
    if len(np.unique(digests)) < len(digests):
        raise ValueError("keys must be distinct to choose among them")
    return np.argsort(digests)[:k].astype(np.int64)


def hashes(keys: Iterable[Any], seed: int) -> NDArray[np.bytes_]:
    """(n,) S16: what `random_rows` orders by, for those who see the keys some at a time."""
    return _digest_keys(keys, salt=str(seed))


def _matrix(embeddings: ArrayLike) -> NDArray[np.float32]:
    rows = np.asarray(embeddings, dtype=np.float32)
    if rows.ndim != 2:
        raise ValueError(f"embeddings must be a (rows, features) matrix, not of shape {rows.shape}")
    if not all(np.isfinite(rows[part]).all() for part in _chunks(len(rows))):
        raise ValueError("embeddings contain NaN or infinity")
    return rows


def _chunks(n: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, n, CHUNK))


def _digest_keys(keys: Iterable[Any], salt: str = "") -> NDArray[np.bytes_]:
    return np.array([_digest(f"{salt}\0{key}".encode()) for key in keys], dtype="S16")


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()


def _canonical_order(
    rows: NDArray[np.float32], keys: Sequence[Any] | NDArray[Any] | None
) -> Indices:
    """Positions of the distinct rows, in an order that their arrangement does not change."""
    content = np.empty(len(rows), dtype="S16")
    for part in _chunks(len(rows)):
        content[part] = [_digest(row.tobytes()) for row in rows[part] + np.float32(0)]  # no -0.0
    if keys is None:
        return np.unique(content, return_index=True)[1].astype(np.int64)
    if len(keys) != len(rows):
        raise ValueError(f"{len(keys)} keys for {len(rows)} rows")
    order = np.argsort(_digest_keys(keys), kind="stable")
    first = np.unique(content[order], return_index=True)[1]
    return order[np.sort(first)]


def _weighted_components(rows: NDArray[np.float32], order: Indices) -> NDArray[np.float32]:
    """Standardise, PCA, Kaiser, weight: (len(order), m) float32."""
    n = len(order)
    mean = sum(rows[order[part]].sum(0, dtype=np.float64) for part in _chunks(n)) / n
    scatter = np.zeros((rows.shape[1],) * 2)
    for part in _chunks(n):
        centred = rows[order[part]] - mean
        scatter += centred.T @ centred
    deviation = np.sqrt(np.diag(scatter) / n)
    constant = deviation <= np.finfo(np.float32).eps * np.abs(mean)
    scale = np.where(constant, 1.0, deviation)

    eigenvalues, axes = np.linalg.eigh(scatter / np.outer(scale, scale) / (n - 1))
    kept = eigenvalues > 1
    kept[-1] = True  # below one only where rows differ in no more than float32's last digits
    weights = eigenvalues[kept] / eigenvalues.sum()
    to_components = axes[:, kept] / scale[:, None] * weights

    components = np.empty((n, len(weights)), dtype=np.float32)
    for part in _chunks(n):
        components[part] = (rows[order[part]] - mean) @ to_components
    return components


def _cover_then_ward(components: NDArray[np.float32], k: int) -> Indices:
    """Labels 0…k-1 of BIRCH's two phases; every label occurs."""
    from sklearn.cluster import AgglomerativeClustering

    if k == 1:
        return np.zeros(len(components), dtype=np.int64)
    size = min(len(components), max(2_000, 4 * k))
    _, subcluster = _cover(components, size)
    centroids = _centroids(components, subcluster, size)
    ward = AgglomerativeClustering(n_clusters=k, linkage="ward")
    labels: Indices = ward.fit_predict(centroids)[subcluster].astype(np.int64)
    return labels


def _cover(points: NDArray[np.float32], k: int) -> tuple[Indices, Indices]:
    """Farthest-point leaders (k,), and for each point (n,) which of them is nearest."""
    mean = points.mean(0, dtype=np.float64)
    squared = np.empty(len(points), dtype=np.float32)  # distance from the mean
    for part in _chunks(len(points)):
        squared[part] = np.square(points[part] - mean).sum(1)

    leaders = np.empty(k, dtype=np.int64)
    nearest = np.zeros(len(points), dtype=np.int64)
    gap = np.full(len(points), np.inf, dtype=np.float32)
    candidate = int(np.argmax(squared))
    for i in range(k):
        leaders[i] = candidate
        axis = (points[candidate] - mean).astype(np.float32)
        distance = squared + squared[candidate] - 2 * (points @ axis - np.float32(mean @ axis))
        distance[candidate] = -np.inf  # a leader is its own, and never chosen twice
        closer = distance < gap
        nearest[closer] = i
        np.minimum(gap, distance, out=gap)
        candidate = int(np.argmax(gap))
    return leaders, nearest


def _centroids(points: NDArray[np.float32], labels: Indices, k: int) -> NDArray[np.float64]:
    counts = np.bincount(labels, minlength=k)
    sums = [np.bincount(labels, weights=column, minlength=k) for column in points.T]
    return np.stack(sums, axis=1) / counts[:, None]


def _nearest_to_centroid(components: NDArray[np.float32], labels: Indices, k: int) -> Indices:
    centroids = _centroids(components, labels, k)
    distance = np.empty(len(components))
    for part in _chunks(len(components)):
        distance[part] = np.square(components[part] - centroids[labels[part]]).sum(1)
    order = np.lexsort((distance, labels))
    return order[np.searchsorted(labels[order], np.arange(k))]
