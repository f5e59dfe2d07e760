"""Which build of torch an environment gets: for the CPU, or with CUDA.

On Linux, PyPI's torch brings some 4 GB of CUDA. Where no NVIDIA driver runs, the build for the CPU
is taken from where its authors publish it, unless the user's settings say where packages come from.
"""

import shutil
import sys
import urllib.request
from pathlib import Path

from packaging.requirements import Requirement

from platonic_store.runtimes.environments import Environment
from platonic_store.runtimes.installers import Installer

CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
CUDA_GB = 4.5  # what CUDA adds on the disk, measured for torch 2.13
GPU_PACKAGES = ("nvidia-", "cuda-", "triton")


def has_torch(environment: Environment) -> bool:
    """Whether a family asks for torch by name."""
    return any(Requirement(text).name == "torch" for text in environment.requires)


def places(environment: Environment, installer: Installer) -> list[str]:
    """Options that say where torch comes from; none: from where all packages come."""
    from_pypi = sys.platform == "linux" and not installer.names_places
    wants_cpu = has_torch(environment) and from_pypi and not has_nvidia()
    return ["--extra-index-url", CPU_BUILDS] if wants_cpu and _is_reachable(CPU_BUILDS) else []


def has_nvidia() -> bool:
    """Whether an NVIDIA driver runs here."""
    return Path("/proc/driver/nvidia/version").exists() or bool(shutil.which("nvidia-smi"))


def brings_cuda(planned: dict[str, str]) -> bool:
    """Whether packages that would be installed are a build with CUDA."""
    return any(name.startswith(GPU_PACKAGES) for name in planned)


def described(environment: Environment, planned: dict[str, str], options: list[str]) -> str:
    """The size of an environment in words, and which torch it has, as far as that is known."""
    if not has_torch(environment):
        return f"some {environment.size_gb:g} GB"
    version = f"torch {planned['torch']}" if "torch" in planned else "torch"
    if brings_cuda(planned):
        return f"some {environment.size_gb + CUDA_GB:g} GB with {version} (CUDA)"
    if planned or options:
        return f"some {environment.size_gb:g} GB with {version} (for the CPU)"
    return f"some {environment.size_gb:g} GB, {CUDA_GB:g} more where torch comes with CUDA,"


def _is_reachable(url: str) -> bool:
    request = urllib.request.Request(f"{url}/torch/", method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=5):
            return True
    except (OSError, ValueError):
        return False
