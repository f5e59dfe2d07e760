"""How many cores this process may use."""

import os
from pathlib import Path


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The cores that the scheduler and the container's quota allow, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min(cores, _quota(cgroup)))


def limit_blas() -> None:
    """Let BLAS, which is not loaded yet, take the cores that may be used and no more.

    It does not know of a container's quota. A person's OMP_NUM_THREADS stands.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", str(usable_cores()))


def _quota(cgroup: Path) -> int:
    """The whole cores that a cgroup's CPU quota (version 2, else 1) amounts to."""
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text()
        return int(quota) // int(period) if int(quota) > 0 else 2**20
    except (OSError, ValueError):  # no cgroup, or "max": no quota
        return 2**20
