"""Vectors in Arrow: matrices to columns of fixed-size lists, and back."""

import numpy as np
import pyarrow as pa


def vector_array(vectors: np.ndarray) -> pa.FixedSizeListArray:
    """An (n, dim) matrix as an Arrow column of fixed-size lists of float32."""
    flat = np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), vectors.shape[1])


def vector_matrix(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """An Arrow column of fixed-size lists of floats as an (n, dim) float32 matrix."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # an empty chunked array stays chunked
        return np.empty((0, column.type.list_size), dtype=np.float32)
    flat: np.ndarray = array.flatten().to_numpy(zero_copy_only=False)
    return flat.astype(np.float32, copy=False).reshape(-1, array.type.list_size)
