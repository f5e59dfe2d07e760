"""Hubs: rows that are among everybody's nearest, and what a search across models does about them.

In many dimensions a few points are the neighbours of most others (Radovanović, Nanopoulos and
Ivanović, JMLR 11, 2487, 2010). Between two models' coordinates this decides who is found: a hub
answers in the place of the right atom. So a candidate y is judged by both directions, how likely x
finds it and how likely it finds x among all that might ask:

    log P(y|x) + log P(x|y) = β (2 cos(x, y) − hub(y)) + …
    hub(y) = 1/β log mean_x' exp(β cos(x', y)),

the inverted softmax (Smith et al., arXiv 1702.03859, equation 2). Two sides of equal noise want
that; the candidates of a noisier side want more of it, so a stored score is 1.5 times this. The
asker's own term is the same for all candidates and changes no order. Each x' is the mean of the
other models' coordinates of an atom of a sample, so that a candidate has one hub score, whoever
asks. The fewer of all rows the sample holds, the more a score says of whose like happens to be in
it: so it is multiplied by the sample's share of the rows (docs/recipes.md).
"""

from collections.abc import Mapping
from io import BytesIO
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from platonic_store.geometry.neighbours import unit_rows

SHARPNESS = 400.0  # β
WEIGHT = 1.5
NEIGHBOURS = 10
BLOCK = 1_024  # rows compared with the sample at once


class Sample(NamedTuple):
    """What hubs of a model's coordinates are measured by.

    rows: (n, d) float32 of unit length; share: how many of all rows they are; sharpness: β, or None
    in a space that an older program made: its scores are √share times the mean cosine with the ten
    nearest (CSLS: Conneau et al., arXiv 1710.04087, equation 3).
    """

    rows: NDArray[np.float32]
    share: float = 1.0
    sharpness: float | None = SHARPNESS


class Seen(NamedTuple):
    """The coordinates that each of the models that agreed on a space gives to the same rows.

    coordinates: (m, n, d) float16 of unit length; share: how many of all rows they are.
    """

    coordinates: NDArray[np.float16]
    share: float = 1.0

    @classmethod
    def of(cls, coordinates: ArrayLike, share: float = 1.0) -> Self:
        """Of coordinates (m, n, d) of any length."""
        return cls(unit_rows(coordinates).astype(np.float16), share)

    def by_others(self, model: int | None) -> Sample:
        """What the others of a model see; None for one that is not among them."""
        others = np.arange(len(self.coordinates)) != model
        total = self.coordinates[others].sum(0, dtype=np.float32)
        return Sample(unit_rows(total).astype(np.float32), self.share)


def hubness(points: ArrayLike, sample: Sample) -> NDArray[np.float32]:
    """How near each point is to everybody: `hub` above, times the sample's share.

    Args:
        points: (n, d), of any length.
        sample: of other models' coordinates.

    Returns:
        (n,) float32 within [-1.5, 1.5], rounded to five decimals; zeros where the sample is empty.
    """
    rows = np.asarray(points)
    found = np.zeros(len(rows), dtype=np.float32)
    for start in range(0, len(rows), BLOCK) if len(sample.rows) else ():
        block = slice(start, start + BLOCK)
        cosines = unit_rows(rows[block]).astype(np.float32) @ sample.rows.T
        if sample.sharpness is None:
            found[block] = np.sqrt(sample.share) * _mean_of_nearest(cosines)
        else:
            soft = _soft_maximum(cosines, sample.sharpness)
            found[block] = WEIGHT * sample.share * soft
    return np.round(found, 5)


def _soft_maximum(cosines: NDArray[np.float32], sharpness: float) -> NDArray[np.float32]:
    """1/β log mean exp(β c) of each row, in place."""
    largest = cosines.max(1)
    cosines -= largest[:, None]
    cosines *= np.float32(sharpness)
    np.exp(cosines, out=cosines)
    means = cosines.mean(1, dtype=np.float64)
    soft: NDArray[np.float32] = (largest + np.log(means) / sharpness).astype(np.float32)
    return soft


def _mean_of_nearest(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    n = cosines.shape[1]
    first = n - min(NEIGHBOURS, n)
    means: NDArray[np.float32] = np.partition(cosines, first, axis=1)[:, first:].mean(1)
    return means


def to_bytes(seen: Mapping[Any, Seen]) -> bytes:
    """An .npz archive without pickles; equal samples give equal bytes."""
    arrays: dict[str, Any] = {}
    for name, one in seen.items():
        arrays[f"{name}_coordinates"] = one.coordinates
        arrays[f"{name}_share"] = np.array(one.share)
    buffer = BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def from_bytes(data: bytes, level: str, model: int | None) -> Sample:
    """The sample of a level for one of the models, of what `to_bytes` or an older program wrote."""
    with np.load(BytesIO(data), allow_pickle=False) as arrays:
        share = float(arrays[f"{level}_share"])
        if f"{level}_coordinates" in arrays:
            return Seen(arrays[f"{level}_coordinates"], share).by_others(model)
        others = arrays[f"{level}_model"] != (-1 if model is None else model)
        return Sample(arrays[f"{level}_rows"][others].astype(np.float32), share, None)
