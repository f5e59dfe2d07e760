"""Hubs: rows that are among everybody's nearest, and what a search across models does about them.

In many dimensions a few points are the neighbours of most others (Radovanović, Nanopoulos and
Ivanović, JMLR 11, 2487, 2010). Between two models' coordinates this decides who is found: a hub
answers in the place of the right atom. So a candidate y is judged by both directions, how likely x
finds it and how likely it finds x among all that might ask:

    log P(y|x) + log P(x|y) = β (2 cos(x, y) − hub(y)) + …
    hub(y) = 1/β log mean_x' exp(β cos(x', y)),

the inverted softmax (Smith et al., arXiv 1702.03859, equation 2) at half weight, as two sides
of equal noise want it. The asker's own term is the same for all candidates and changes no order.
The sample of x' is of the other models' coordinates, so that a candidate has one hub score, whoever
asks. The fewer of all rows it holds, the more a score says of whose like happens to be in it: so it
is multiplied by the sample's share of the rows (docs/recipes.md).
"""

from collections.abc import Mapping
from io import BytesIO
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from platonic_store.geometry.neighbours import unit_rows

SHARPNESS = 100.0  # β: two good models' coordinates of one atom have a cosine of 0.98
NEIGHBOURS = 10
BLOCK = 1_024  # rows compared with the sample at once


class Sample(NamedTuple):
    """Coordinates that hubs are measured by.

    rows: (n, d) float32 of unit length; model: (n,) the place of each row's model in a list; share:
    of all rows, how many the others of a model see; sharpness: β, or None in a space that an older
    program made: its scores are √share times the mean cosine with the ten nearest (CSLS: Conneau et
    al., arXiv 1710.04087, equation 3).
    """

    rows: NDArray[np.float32]
    model: NDArray[np.int8]
    share: float = 1.0
    sharpness: float | None = SHARPNESS

    @classmethod
    def of(cls, coordinates: ArrayLike, model: ArrayLike, share: float = 1.0) -> Self:
        """Of coordinates (n, d) of any length, in half precision, as they are kept."""
        rows = unit_rows(coordinates).astype(np.float16).astype(np.float32)
        return cls(rows, np.asarray(model, dtype=np.int8), share)

    def without(self, model: int | None) -> Self:
        """The rows of the other models."""
        if model is None:
            return self
        others = self.model != model
        return self._replace(rows=self.rows[others], model=self.model[others])


def hubness(points: ArrayLike, sample: Sample) -> NDArray[np.float32]:
    """How near each point is to everybody: `hub` above, times the sample's share.

    Args:
        points: (n, d), of any length.
        sample: of other models' coordinates.

    Returns:
        (n,) float32 within [-1, 1], rounded to five decimals; zeros where the sample is empty.
    """
    rows = np.asarray(points)
    found = np.zeros(len(rows), dtype=np.float32)
    for start in range(0, len(rows), BLOCK) if len(sample.rows) else ():
        block = slice(start, start + BLOCK)
        cosines = unit_rows(rows[block]).astype(np.float32) @ sample.rows.T
        if sample.sharpness is None:
            found[block] = np.sqrt(sample.share) * _mean_of_nearest(cosines)
        else:
            found[block] = sample.share * _soft_maximum(cosines, sample.sharpness)
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


def to_bytes(samples: Mapping[str, Sample]) -> bytes:
    """An .npz archive without pickles; equal samples give equal bytes."""
    arrays: dict[str, Any] = {}
    for name, one in samples.items():
        arrays |= {
            f"{name}_rows": one.rows.astype(np.float16),
            f"{name}_model": one.model,
            f"{name}_share": np.array(one.share),
        }
        if one.sharpness is not None:
            arrays[f"{name}_sharpness"] = np.array(one.sharpness)
    buffer = BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def from_bytes(data: bytes) -> dict[str, Sample]:
    """What `to_bytes` wrote."""
    with np.load(BytesIO(data), allow_pickle=False) as arrays:
        names = sorted(key.removesuffix("_rows") for key in arrays if key.endswith("_rows"))
        return {
            name: Sample(
                arrays[f"{name}_rows"].astype(np.float32),
                arrays[f"{name}_model"],
                float(arrays[f"{name}_share"]),
                float(arrays[f"{name}_sharpness"]) if f"{name}_sharpness" in arrays else None,
            )
            for name in names
        }
