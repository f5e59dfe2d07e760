"""Hubs: rows that are among everybody's nearest, and what a search across models does about them.

In many dimensions a few points are the neighbours of most others (Radovanović, Nanopoulos and
Ivanović, JMLR 11, 2487, 2010). Between two models' coordinates this decides who is found: a hub
answers in the place of the right atom. Cross-domain similarity local scaling (CSLS: Conneau et al.,
arXiv 1710.04087, equation 3) takes from each similarity what the candidate has with everybody:

    2 cos(x, y) − hub(y),   hub(y) = mean cosine of y with its k nearest of a sample.

The asker's own term is the same for all candidates and changes no order. The sample is of the other
models' coordinates, so that a candidate has one hub score, whoever asks.
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

    rows: (n, d) float32 of unit length; model: (n,) the place of each row's model in a list.
    """

    rows: NDArray[np.float32]
    model: NDArray[np.int8]

    @classmethod
    def of(cls, coordinates: ArrayLike, model: ArrayLike) -> Self:
        """Of coordinates (n, d) of any length, in half precision, as they are kept."""
        rows = unit_rows(coordinates).astype(np.float16).astype(np.float32)
        return cls(rows, np.asarray(model, dtype=np.int8))

    def without(self, model: int | None) -> NDArray[np.float32]:
        """The rows of the other models."""
        return self.rows if model is None else self.rows[self.model != model]


def hubness(
    points: ArrayLike, sample: NDArray[np.float32], k: int = NEIGHBOURS
) -> NDArray[np.float32]:
    """How near each point is to everybody: its mean cosine with its k nearest of a sample.

    Args:
        points: (n, d), of any length.
        sample: (m, d) float32 of unit length.
        k: how many; all where the sample has fewer.

    Returns:
        (n,) float32 within [-1, 1], rounded to five decimals; zeros where the sample is empty.
    """
    rows = np.asarray(points)
    found = np.zeros(len(rows), dtype=np.float32)
    k = min(k, len(sample))
    for start in range(0, len(rows), BLOCK) if k else ():
        block = slice(start, start + BLOCK)
        cosines = unit_rows(rows[block]).astype(np.float32) @ sample.T
        found[block] = np.partition(cosines, len(sample) - k, axis=1)[:, len(sample) - k :].mean(1)
    return np.round(found, 5)


def to_bytes(samples: Mapping[str, Sample]) -> bytes:
    """An .npz archive without pickles; equal samples give equal bytes."""
    arrays: dict[str, Any] = {}
    for name, one in samples.items():
        arrays |= {f"{name}_rows": one.rows.astype(np.float16), f"{name}_model": one.model}
    buffer = BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def from_bytes(data: bytes) -> dict[str, Sample]:
    """What `to_bytes` wrote."""
    with np.load(BytesIO(data), allow_pickle=False) as arrays:
        names = sorted(key.removesuffix("_rows") for key in arrays if key.endswith("_rows"))
        return {
            name: Sample(arrays[f"{name}_rows"].astype(np.float32), arrays[f"{name}_model"])
            for name in names
        }
