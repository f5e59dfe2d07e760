"""Hubs: rows that are among everybody's nearest, and what a search across models does about them.

In many dimensions a few points are the neighbours of most others (Radovanović, Nanopoulos and
Ivanović, JMLR 11, 2487, 2010). Between two models' coordinates this decides who is found: a hub
answers in the place of the right atom. Cross-domain similarity local scaling (CSLS: Conneau et al.,
arXiv 1710.04087, equation 3) takes from each similarity what the candidate has with everybody:

    2 cos(x, y) − hub(y),   hub(y) = w · mean cosine of y with its k nearest of a sample.

The asker's own term is the same for all candidates and changes no order. The sample is of the other
models' coordinates, so that a candidate has one hub score, whoever asks. The fewer of all rows it
holds, the more a score says of whose like happens to be in it: hence w = √share (docs/recipes.md).
"""

from collections.abc import Mapping
from io import BytesIO
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from platonic_store.geometry.neighbours import unit_rows

NEIGHBOURS = 10
BLOCK = 1_024  # rows compared with the sample at once


class Sample(NamedTuple):
    """Coordinates that hubs are measured by.

    rows: (n, d) float32 of unit length; model: (n,) the place of each row's model in a list; share:
    of all rows, how many the others of a model see.
    """

    rows: NDArray[np.float32]
    model: NDArray[np.int8]
    share: float = 1.0

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


def hubness(points: ArrayLike, sample: Sample, k: int = NEIGHBOURS) -> NDArray[np.float32]:
    """How near each point is to everybody: its mean cosine with its k nearest of a sample.

    Times the root of the sample's share.

    Args:
        points: (n, d), of any length.
        sample: of other models' coordinates.
        k: how many; all where the sample has fewer.

    Returns:
        (n,) float32 within [-1, 1], rounded to five decimals; zeros where the sample is empty.
    """
    rows = np.asarray(points)
    found = np.zeros(len(rows), dtype=np.float32)
    others = sample.rows
    k = min(k, len(others))
    for start in range(0, len(rows), BLOCK) if k else ():
        block = slice(start, start + BLOCK)
        cosines = unit_rows(rows[block]).astype(np.float32) @ others.T
        found[block] = np.partition(cosines, len(others) - k, axis=1)[:, len(others) - k :].mean(1)
    return np.round(np.float32(np.sqrt(sample.share)) * found, 5)


def to_bytes(samples: Mapping[str, Sample]) -> bytes:
    """An .npz archive without pickles; equal samples give equal bytes."""
    arrays: dict[str, Any] = {}
    for name, one in samples.items():
        arrays |= {
            f"{name}_rows": one.rows.astype(np.float16),
            f"{name}_model": one.model,
            f"{name}_share": np.array(one.share),
        }
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
            )
            for name in names
        }
