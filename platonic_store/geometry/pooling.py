"""From atoms to structures."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def mean_by_structure(atom_rows: ArrayLike, structure: ArrayLike) -> NDArray[np.float32]:
    """Mean of each structure's atoms, accumulated in double precision.

    Args:
        atom_rows: (n, D).
        structure: (n,) integers 0…m-1, each occurring: the structure that each atom is of.

    Returns:
        (m, D) float32.

    Raises:
        ValueError: lengths differ, or a number below the largest has no atoms.
    """
    rows, index = np.asarray(atom_rows), np.asarray(structure)
    if rows.ndim != 2 or index.shape != rows.shape[:1]:
        raise ValueError(f"structure numbers of shape {index.shape} for rows of {rows.shape}")
    if not len(rows):
        return np.empty((0, rows.shape[1]), dtype=np.float32)
    if (np.diff(index) < 0).any():
        order = np.argsort(index, kind="stable")
        rows, index = rows[order], index[order]
    starts = np.flatnonzero(np.diff(index, prepend=index[0] - 1))
    if not np.array_equal(index[starts], np.arange(len(starts))):
        raise ValueError("structure numbers must be 0…m-1, each with an atom")
    sums = np.add.reduceat(rows, starts, axis=0, dtype=np.float64)
    counts = np.diff(starts, append=len(rows))
    return (sums / counts[:, None]).astype(np.float32)
