"""The interface of a family of models, and what its adapters share.

A family is a folder: `adapter.py` with a function `load(card, device) -> Model`, which delegates
to the family's own package; `environment.yaml`, what its interpreter needs; `cards/*.yaml`, one
for each model; and `official.py`, the package's own way to the same numbers, for the conformance
kit and the benchmarks. A family from outside is such a folder elsewhere.

The card that `load` gets has the YAML's fields (absent ones are None or empty) and three more:
`folder` (of the family), `checkpoint` (path of the weights, a file or a folder; None where the
package has them, or none are needed) and `seed` (of random weights in place of the trained ones, or
None).
"""

import hashlib
import importlib
import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlparse

import numpy as np

from ingest import transfer
from ingest.transfer import to_device, to_host


class Structure(NamedTuple):
    """One crystal, molecule or slab."""

    id: str
    numbers: np.ndarray  # (n,) int, atomic numbers
    positions: np.ndarray  # (n, 3) float64, Cartesian, Å
    cell: np.ndarray  # (3, 3) float64, rows are the lattice vectors, Å; zero where there is none
    pbc: np.ndarray  # (3,) bool


class Official(Protocol):
    """A family's `official.py`: the package's own ways to what `embed` gives. All are optional."""

    def calculator(self, model: "Model") -> Any:
        """The package's own ASE calculator, with the weights of `model`."""

    def features(self, model: "Model", structure: Structure) -> dict[int, np.ndarray]:
        """The package's own features of atoms, layer → (n, dim)."""

    def energy(self, model: "Model", structure: Structure) -> float:
        """eV, by the package's own head on the layers that `model.embed` gives."""

    def head(self, model: "Model") -> "Head":
        """The package's own head, if it reads an atom's last layer and element and nothing else.

        Such a family has this in place of `energy`, and its cards say `head: true`.
        """


# The last layer's features (n, dim) float32 and the atomic numbers (n,) → energies (n,), eV.
Head = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Model(Protocol):
    """A loaded model, as every adapter gives it."""

    checkpoint_sha256: str  # of the file that was loaded
    versions: Mapping[str, str]  # package → version, of all packages that affect the numbers
    device: str  # "cpu", "cuda", …
    cutoff: float  # Å
    elements: frozenset[int]  # atomic numbers that were trained
    layers: Mapping[int, int]  # message-passing layer, 0 first → number of invariant scalars

    @property
    def graph(self) -> Callable[[Structure], Any]:
        """Builds the graph of a structure. Function and graph can be pickled without the model.

        Any exception rejects the structure with the exception's message.
        """

    def embed(self, graphs: Sequence[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """The invariant scalars of each layer, (atoms of all graphs, dim) float32.

        With torch by `transfer.to_host`, the last that is done with them: see there.
        """


class BuildsTogether(Model, Protocol):
    """A model that can build the graphs of many structures at once, on its device."""

    def graphs(self, structures: Sequence[Structure]) -> list[Any]:
        """What `graph` gives of each, but for the order of edges and the last bits of vectors.

        Used on a GPU, where nvalchemi-toolkit-ops is installed (`neighbours`).
        """


class Outputs(NamedTuple):
    """What a potential says of the same structures, beside the features of their atoms."""

    energies: np.ndarray  # (structures,) float64, eV, as the package's own calculator gives them
    forces: np.ndarray | None  # (atoms of all, 3) float32, eV/Å; None where not asked for


class Potential(Model, Protocol):
    """A model with energies and forces: its card says whether it is `conservative`."""

    def predict(
        self, graphs: Sequence[Any], layers: Sequence[int], forces: bool
    ) -> tuple[dict[int, np.ndarray], Outputs]:
        """What `embed` gives, and the outputs of the same forward pass. There may be no layers."""


def part(card: Mapping[str, Any], name: str) -> ModuleType:
    """The module `name`.py of a card's family. Raises FileNotFoundError."""
    path = Path(card["folder"]) / f"{name}.py"
    module_name = f"{__name__}.{card['family']}_{name}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[module_name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(card: Mapping[str, Any], device: str = "auto") -> Model:
    """The model of a card, on `device` ("auto": a CUDA GPU if there is one, else the CPU)."""
    model: Model = part(card, "adapter").load(card, device)
    return model


def periodic_atoms(structure: Structure, cutoff: float) -> Any:
    """The same crystal as `ase.Atoms`, periodic along all directions, across a vacuum where it was
    not: for packages that know no other periodicity than along all directions or none.
    """
    from ase import Atoms
    from ase.cell import Cell

    cell = Cell(structure.cell * structure.pbc[:, None]).complete().array
    inverse = np.linalg.inv(cell)
    extent = np.ptp(structure.positions @ inverse, axis=0)
    widened = extent + (cutoff + 1) * np.linalg.norm(inverse, axis=0)
    cell[~structure.pbc] *= widened[~structure.pbc, None]
    return Atoms(structure.numbers, structure.positions, cell=cell, pbc=True)


def sums(values: Any, sizes: Sequence[int]) -> np.ndarray:
    """(structures,) float64: of a tensor (atoms,), those of each structure."""
    if transfer.is_remote(values):
        import torch

        lengths = to_device(np.asarray(sizes), str(values.device))
        values = values.detach().double()
        return to_host(torch.segment_reduce(values, "sum", lengths=lengths, unsafe=True))
    first = np.cumsum([0, *sizes[:-1]])
    return np.add.reduceat(values.detach().numpy().astype(np.float64), first)


def pieces(graphs: Sequence[Any], sizes: Sequence[int], most: int) -> Iterator[list[Any]]:
    """These graphs in order, as many at a time as have a size of `most` together, one at least."""
    piece: list[Any] = []
    total = 0
    for graph, size in zip(graphs, sizes, strict=True):
        if piece and total + size > most:
            yield piece
            piece, total = [], 0
        piece.append(graph)
        total += size
    yield piece


def forces_of_edges(energy: Any, vectors: Any, start: Any, end: Any, atoms: int) -> np.ndarray:
    """(atoms, 3) float32, eV/Å; see `pulls_of_edges`."""
    return to_host(pulls_of_edges(energy, vectors, start, end, atoms))


def pulls_of_edges(energy: Any, vectors: Any, start: Any, end: Any, atoms: int) -> Any:
    """(atoms, 3), a tensor: minus the gradient of an energy by where atoms are.

    energy: a scalar tensor, of the vectors (edges, 3) from atom `start` to atom `end`.
    """
    import torch

    (gradient,) = torch.autograd.grad(energy, vectors, allow_unused=True)
    if gradient is None:  # there are no edges
        return vectors.new_zeros(atoms, 3).detach()
    forces = vectors.new_zeros(atoms, 3).detach()
    forces.index_add_(0, start, gradient).index_add_(0, end, gradient, alpha=-1)
    return forces


def outputs_of_edges(
    atoms: Any, sizes: Sequence[int], vectors: Any, start: Any, end: Any, *, forces: bool
) -> Outputs:
    """Of the energies of atoms, a tensor (atoms,) of the vectors of edges; see `forces_of_edges`.

    sizes: how many atoms each structure has.
    """
    energies = sums(atoms, sizes)
    if not forces:
        return Outputs(energies, None)
    return Outputs(energies, forces_of_edges(atoms.sum(), vectors, start, end, len(atoms)))


def asked(features: Iterable[Any], layers: Sequence[int]) -> dict[int, np.ndarray]:
    """Layer → array, of tensors that come in the order of layers, which end with the last asked."""
    found: dict[int, np.ndarray] = {}
    for layer, rows in enumerate(features):
        if layer in layers:
            found[layer] = to_host(rows)
        if layer == max(layers):
            break
    return found


def disjoint(
    graphs: Sequence[Mapping[str, Any]], points_into: Mapping[str, str], device: str
) -> dict[str, Any]:
    """The arrays of some graphs as tensors of one disjoint graph of all.

    points_into: an array of indices → that whose rows they are. Indices are joined along their last
    axis, all else along the first. A graph's arrays may be tensors that are on the device.
    """
    tensors = {}
    for name in graphs[0]:
        arrays, axis = [graph[name] for graph in graphs], 0
        if name in points_into:
            before = np.cumsum([0, *(len(graph[points_into[name]]) for graph in graphs[:-1])])
            axis = -1
        if isinstance(arrays[0], np.ndarray):
            if axis:
                arrays = [array + first for array, first in zip(arrays, before, strict=True)]
            tensors[name] = to_device(np.concatenate(arrays, axis=axis), device)
            continue
        import torch

        tensors[name] = torch.cat(arrays, dim=axis)
        if axis:
            more = np.repeat(before, [array.shape[-1] for array in arrays])
            tensors[name] += to_device(more, device)
    return tensors


def torch_device(name: str) -> str:
    """The device of a family that runs on torch; "auto" is resolved."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def verified(path: str | Path, card: Mapping[str, Any]) -> str:
    """The SHA-256 of a checkpoint, if the card names it.

    Of a folder: of the files that the card's `checksums` or `downloads` name. A checkpoint can run
    code (pickle): call this before loading it. Raises ValueError, FileNotFoundError.
    """
    path = Path(path)
    forms = [list(files) for files in (card.get("checksums") or {}).values()]
    forms.append([Path(urlparse(url).path).name for url in card["downloads"]])
    if path.is_dir():
        whole = (each for each in forms if all((path / name).exists() for name in each))
        names = next(whole, forms[-1])
        found = digest_of_files({name: sha256(path / name) for name in names})
    else:
        found = sha256(path)
    allowed = [digest_of_files(files) for files in (card.get("checksums") or {}).values()]
    if found not in (card["checkpoint_sha256"], *allowed):
        named = card["checkpoint_sha256"] or "none"
        raise ValueError(
            f"refused to load {path}: its SHA-256 is {found}, "
            f"but the card of {card['name']} names {named}"
        )
    return found


def digest_of_files(files: Mapping[str, str]) -> str:
    """The SHA-256 of a checkpoint of some files, name → SHA-256.

    Of one file its own; of several that of the lines `SHA-256  name`, sorted by name.
    """
    if len(files) == 1:
        return next(iter(files.values()))
    lines = "".join(f"{files[name]}  {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_FORMER: dict[str, str] = {}  # identity of random weights → what it was in older stores


def weights_sha256(parameters: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> str:
    """The identity of random weights: the SHA-256 of the parameters' names, shapes and signs.

    The last bits of what torch draws are the processor's (with AVX2 and without, a third of them
    differ), and so are buffers that are computed; signs are the seed's. before: the tensors that
    the identity was taken of in older stores, if other than the parameters.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(parameters.items()):
        array = _array(tensor)
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.packbits(np.signbit(array)).tobytes())
    found = digest.hexdigest()
    _FORMER[found] = tensors_sha256(parameters if before is None else before)
    return found


def former_sha256(found: str) -> str | None:
    """How older stores call the random weights of this process that have an identity."""
    return _FORMER.get(found)


def tensors_sha256(state: Mapping[str, Any]) -> str:
    """The SHA-256 of named tensors to the last bit, such as a `state_dict`."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        array = np.ascontiguousarray(_array(tensor))
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _array(tensor: Any) -> np.ndarray:
    """Of a tensor of torch, or what numpy takes for an array."""
    return np.asarray(tensor.detach().cpu() if hasattr(tensor, "detach") else tensor)


def versions(*packages: str) -> dict[str, str]:
    """The versions of Python and of these packages."""
    found = {package: importlib.metadata.version(package) for package in packages}
    return {"python": platform.python_version(), **found}
