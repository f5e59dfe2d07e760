"""A cover: of many points so few that none is farther than a radius from one that is kept.

Greedy, in the order in which the points come: a point is kept unless a kept one is within the
radius. Kept points are then farther than the radius from each other (an r-net; Hochbaum and Shmoys,
J. ACM 33, 533, 1986), so no cover by half the radius has fewer.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from platonic_store.geometry.neighbours import unit_rows

Floats = NDArray[np.float32]

BLOCK = 2_048  # points decided together
ROWS = 65_536  # kept points compared with them at once


class Cover:
    """The points that were kept of all that came.

    radius: cosine distance (1 - cos).
    """

    def __init__(self, radius: float):
        self.radius = radius
        self._rows: Floats = np.empty((0, 0), np.float32)
        self.size = 0

    def add(self, points: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Which of the next points are kept.

        Args:
            points: (n, D), finite, in the order of their content.

        Returns:
            (n,) bool.
        """
        kept = np.zeros(len(points), dtype=bool)
        for start in range(0, len(points), BLOCK):
            block = unit_rows(points[start : start + BLOCK]).astype(np.float32)
            kept[start : start + len(block)] = self._decide(block)
        return kept

    def distances(self, points: NDArray[np.floating[Any]]) -> Floats:
        """From each of (n, D) points to the nearest kept one, (n,); infinite if there is none."""
        best = np.full(len(points), -np.inf, dtype=np.float32)
        unit = unit_rows(points).astype(np.float32)
        for start in range(0, self.size, ROWS):
            rows = self._rows[start : min(start + ROWS, self.size)]
            np.maximum(best, (unit @ rows.T).max(1), out=best)
        return np.maximum(1 - best, 0)

    def _decide(self, block: Floats) -> NDArray[np.bool_]:
        rows = np.flatnonzero(self.distances(block) > self.radius)
        is_near = 1 - block[rows] @ block[rows].T <= self.radius
        kept = np.zeros(len(rows), dtype=bool)
        for place in range(len(rows)):
            kept[place] = not (is_near[place] & kept).any()
        self._keep(block[rows[kept]])
        found = np.zeros(len(block), dtype=bool)
        found[rows[kept]] = True
        return found

    def _keep(self, rows: Floats) -> None:
        needed = self.size + len(rows)
        if needed > len(self._rows):
            grown = np.empty((max(needed, 2 * len(self._rows)), rows.shape[1]), np.float32)
            if self.size:
                grown[: self.size] = self._rows[: self.size]
            self._rows = grown
        self._rows[self.size : needed] = rows
        self.size = needed
