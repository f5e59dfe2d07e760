"""How busy a GPU is, by the driver's own tool; see device.py."""

import subprocess
from typing import Self


class Utilisation:
    """Samples a GPU's utilisation within a block. `gpu` is its UUID, None where there is none."""

    def __init__(self, gpu: str | None) -> None:
        self._gpu = gpu
        self._process: subprocess.Popen[str] | None = None
        self._samples: list[float] = []

    def __enter__(self) -> Self:
        query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        if self._gpu is not None:
            try:
                self._process = subprocess.Popen(
                    ["nvidia-smi", *query, "-i", self._gpu, "-lms", "100"],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            except OSError:  # no such tool
                self._process = None
        return self

    def __exit__(self, *raised: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        said, _ = self._process.communicate()
        self._samples = [float(line) for line in said.split() if line.replace(".", "").isdigit()]

    def mean(self) -> float | None:
        """Percent, after the block; None where it is not known (as on a slice of a GPU)."""
        return sum(self._samples) / len(self._samples) if self._samples else None
