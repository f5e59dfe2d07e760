"""One file per family of models; what an adapter offers, and how one is found.

An adapter is a module with a function `load(card, device) -> Model`. It delegates to the
family's own package, and is chosen by the card's `family`, or by the card's `adapter`: the path
of a Python file anywhere, for a family from outside this folder.
"""

import hashlib
import importlib
import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np


class Structure(NamedTuple):
    """One crystal, molecule or slab."""

    id: str
    numbers: np.ndarray  # (n,) int, atomic numbers
    positions: np.ndarray  # (n, 3) float64, Cartesian, Å
    cell: np.ndarray  # (3, 3) float64, rows are the lattice vectors, Å; zero where there is none
    pbc: np.ndarray  # (3,) bool


class Model(Protocol):
    """A loaded model, as every adapter gives it."""

    checkpoint_sha256: str  # of the file that was loaded
    versions: Mapping[str, str]  # package → version, of all that decides the numbers
    device: str  # "cpu", "cuda", …
    cutoff: float  # Å
    elements: frozenset[int]  # atomic numbers that were trained
    layers: Mapping[int, int]  # message-passing layer, 0 first → number of invariant scalars

    @property
    def graph(self) -> Callable[[Structure], Any]:
        """Turns a structure into a graph. Both can be pickled, and neither holds the model.

        Any exception rejects that structure with the exception's message.
        """

    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """The invariant scalars of each layer, (atoms of all graphs, dim) float32."""


def adapter(card: Mapping[str, Any]) -> ModuleType:
    """The adapter module of a card's family."""
    path = card.get("adapter")
    if path is None:
        return importlib.import_module(f"{__name__}.{card['family']}")
    name = f"{__name__}.user_{card['family']}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(card: Mapping[str, Any], device: str = "auto") -> Model:
    """The model of a card, on `device` ("auto": a CUDA GPU if there is one, else the CPU)."""
    return adapter(card).load(card, device)


def torch_device(name: str) -> str:
    """What "auto" means to a family that runs on torch."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def verified(path: str | Path, card: Mapping[str, Any]) -> str:
    """The SHA-256 of a checkpoint, if it is the one that the card names.

    A checkpoint is code (pickle): call this before loading one. Raises ValueError.
    """
    with Path(path).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != card["checkpoint_sha256"]:
        raise ValueError(
            f"refused to load {path}: its SHA-256 is {found}, "
            f"but the card of {card['name']} names {card['checkpoint_sha256']}"
        )
    return found


def versions(*packages: str) -> dict[str, str]:
    """The versions of Python and of these packages."""
    found = {package: importlib.metadata.version(package) for package in packages}
    return {"python": platform.python_version(), **found}
