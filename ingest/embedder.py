"""From structures to embeddings, within the available memory; failures reject one structure."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np

from ingest.families import BuildsTogether, Model, Outputs, Potential, Structure
from ingest.transfer import Arrivals, beside, deferred

SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se "
    "Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb "
    "Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm "
    "Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
)

CPU_BATCH_ATOMS = 192
GPU_BYTES_PER_ATOM = 8 * 2**20


class Rejected(NamedTuple):
    """Why a structure has no embedding."""

    reason: str


class EmbeddedStructure(NamedTuple):
    """A structure and its invariant scalars, layer → (atoms, dim) float32.

    energy: eV. forces: (atoms, 3) float32, eV/Å. Both None where not asked for.
    """

    structure: Structure
    layers: dict[int, np.ndarray]
    energy: float | None = None
    forces: np.ndarray | None = None


# A structure's embedding, or its id and the reason for its rejection.
Result = EmbeddedStructure | tuple[str, str]


@dataclass
class Work:
    """Structures to embed, whose graphs may still be under construction, and what was found."""

    structures: Sequence[Structure]
    graphs: Iterable[Any]
    results: list[Result] = field(default_factory=list)
    seconds_graph: float = 0.0  # building graphs, or waiting for them
    seconds_forward: float = 0.0  # running the model
    seconds_waiting: float = 0.0  # of these, waiting for the device


@dataclass
class Pass:
    """A forward pass: after its launch `found` is to be read when all has arrived."""

    work: Work
    group: list[tuple[Structure, Any]]
    found: tuple[dict[int, np.ndarray], Outputs | None] = ({}, None)
    error: Exception | None = None
    arrivals: Arrivals = field(default_factory=Arrivals)


@dataclass(frozen=True)
class GraphBuilder:
    """Builds the graph of a structure, or rejects it. Can be pickled."""

    name: str
    elements: frozenset[int]
    build: Callable[[Structure], Any]

    def __call__(self, structure: Structure) -> Any:
        if reason := self.rejection(structure):
            return Rejected(reason)
        try:
            return self.build(structure)
        except Exception as error:
            return Rejected(f"no graph: {one_line(error)}")

    def rejection(self, structure: Structure) -> str | None:
        """Why it can have no graph, whatever the model."""
        if len(structure.numbers) == 0:
            return "no atoms"
        unknown = sorted(set(structure.numbers.tolist()) - self.elements)
        if unknown:
            return f"{self.name} does not know element {', '.join(map(symbol, unknown))}"
        if not (np.isfinite(structure.positions).all() and np.isfinite(structure.cell).all()):
            return "a position or lattice vector is not finite"
        if np.linalg.matrix_rank(structure.cell[structure.pbc]) < structure.pbc.sum():
            return "periodic along a direction without an independent lattice vector"
        return None


@dataclass(frozen=True)
class DeviceGraphBuilder:
    """Builds the graphs of some structures at once, on the model's device, or rejects them."""

    builder: GraphBuilder
    model: BuildsTogether

    def __call__(self, structures: Sequence[Structure]) -> Iterator[Any]:
        """One for each, in order."""
        reasons = [self.builder.rejection(one) for one in structures]
        kept = [one for one, reason in zip(structures, reasons, strict=True) if not reason]
        with beside(self.model.device):
            built = iter(self._built(kept))
        for reason in reasons:
            yield Rejected(reason) if reason else next(built)

    def _built(self, structures: list[Structure]) -> list[Any]:
        """What fails is built in two halves, until one structure is left."""
        if not structures:
            return []
        try:
            return self.model.graphs(structures)
        except Exception as error:
            failure = f"no graph: {one_line(_survived(error))}"
        if len(structures) == 1:
            return [Rejected(failure)]
        _release_memory()
        half = len(structures) // 2
        return self._built(structures[:half]) + self._built(structures[half:])


class Embedder:
    """Runs one model on graphs, at most `batch_atoms` atoms in a forward pass.

    On a GPU also at most the edges that so many atoms of the structures so far have: it is edges
    that take memory and time, and a dense crystal has ten times those of a sparse one.

    When memory runs out, `batch_atoms` is halved for good and the batch is run again in two halves;
    a structure that does not fit alone is rejected. A batch that fails otherwise is halved in the
    same way, until one structure is left. If `batch_atoms` is None and the device reports its
    memory, full forward passes double it while they leave more than half of the memory free,
    beginning at `start`.

    outputs: "energy", "forces" or both, of a potential.
    """

    def __init__(
        self,
        model: Model,
        layers: Sequence[int],
        batch_atoms: int | None,
        start: int | None = None,
        outputs: Sequence[str] = (),
    ) -> None:
        self.model = model
        self.layers = tuple(layers)
        self.outputs = tuple(outputs)
        self.batch_atoms = batch_atoms or start or automatic_batch_atoms(model.device)
        self._may_grow = batch_atoms is None
        self._counts_edges = model.device.startswith("cuda")
        self._seen_atoms = self._seen_edges = 0

    def embed(self, structures: Sequence[Structure], graphs: Iterable[Any]) -> list[Result]:
        """For each structure an `EmbeddedStructure`, or its id and the reason for its rejection."""
        (work,) = self.run([Work(structures, graphs)])
        return work.results

    def run(self, works: Iterable[Work | None]) -> Iterator[Work]:
        """The same works in their order, each with its results.

        What a pass leaves on its way from a device is waited for after the next pass is launched,
        be it of the next work. None: there is no next one for now, so that it is waited for.
        """
        before: Pass | None = None  # the one whose results are on their way
        for work in works:
            for launched in self._passes(work) if work else ():
                self._launch(launched)
                if before:
                    self._finish(before)
                    if before.work is not work:
                        yield before.work
                before = launched
                if launched.error or not launched.arrivals.events:  # it failed, or all is here
                    self._finish(launched)
                    before = None
            if before and before.work is not work:
                self._finish(before)
                yield before.work
                before = None
            if work and not before:
                yield work
        if before:
            self._finish(before)
            yield before.work

    def _passes(self, work: Work) -> Iterator[Pass]:
        """What goes through the network at once; structures without a graph are rejected."""
        start = time.perf_counter()
        graphs = list(work.graphs)
        work.seconds_graph = time.perf_counter() - start
        group: list[tuple[Structure, Any]] = []
        atoms = edges = 0
        for structure, graph in zip(work.structures, graphs, strict=True):
            if isinstance(graph, Rejected):
                work.results.append((structure.id, graph.reason))
                continue
            more = edges_of(graph) if self._counts_edges else 0
            self._seen_atoms += len(structure.numbers)
            self._seen_edges += more
            is_full = (
                atoms + len(structure.numbers) > self.batch_atoms
                or (edges + more) * self._seen_atoms > self.batch_atoms * self._seen_edges
            )
            if group and is_full:
                yield Pass(work, group)
                group, atoms, edges = [], 0, 0
            group.append((structure, graph))
            atoms += len(structure.numbers)
            edges += more
        if group:
            yield Pass(work, group)

    def _launch(self, one: Pass) -> None:
        """Raises what leaves this process without its device."""
        start = time.perf_counter()
        with deferred() as one.arrivals:
            try:
                one.found = self._features([graph for _, graph in one.group])
            except Exception as error:
                one.error = _survived(error)
        one.work.seconds_forward += time.perf_counter() - start

    def _finish(self, launched: Pass) -> None:
        """Adds a pass's results to its work; one that failed is run again in two halves.

        An error of the device may show only here.
        """
        work, group = launched.work, launched.group
        structures = [structure for structure, _ in group]
        atoms = sum(len(structure.numbers) for structure in structures)
        start = time.perf_counter()
        try:
            launched.arrivals.wait()
        except Exception as error:
            launched.error = launched.error or _survived(error)
        waited = time.perf_counter()
        work.seconds_waiting += waited - start
        if launched.error is None:
            if self._may_grow and 2 * atoms > self.batch_atoms:
                self._grow()
            work.results += _split(structures, *launched.found)
            work.seconds_forward += time.perf_counter() - start
            return
        if out_of_memory(launched.error):
            failure = f"out of memory: its {atoms} atoms do not fit on {self.model.device}"
            self.batch_atoms = max(1, min(self.batch_atoms, atoms) // 2)
            self._may_grow = False
        else:
            failure = f"no embedding: {one_line(launched.error)}"
        _release_memory()
        if len(group) == 1:
            work.results.append((structures[0].id, failure))
            return
        half = len(group) // 2
        for part in (group[:half], group[half:]):
            again = Pass(work, part)
            self._launch(again)
            self._finish(again)

    def _features(self, graphs: list[Any]) -> tuple[dict[int, np.ndarray], Outputs | None]:
        if not self.outputs:
            return self.model.embed(graphs, self.layers), None
        model = cast(Potential, self.model)
        return model.predict(graphs, self.layers, "forces" in self.outputs)

    def _grow(self) -> None:
        used = memory_used(self.model.device)
        if used is not None and used < 0.5:
            self.batch_atoms *= 2


def _split(
    structures: Sequence[Structure], features: dict[int, np.ndarray], outputs: Outputs | None
) -> Iterator[Result]:
    stop = 0
    for place, structure in enumerate(structures):
        start, stop = stop, stop + len(structure.numbers)
        layers = {layer: rows[start:stop] for layer, rows in features.items()}
        found = EmbeddedStructure(structure, layers)
        if outputs is not None:
            forces = None if outputs.forces is None else outputs.forces[start:stop]
            found = EmbeddedStructure(structure, layers, float(outputs.energies[place]), forces)
        numbers = [*layers.values(), *(one for one in found[2:] if one is not None)]
        if all(np.isfinite(rows).all() for rows in numbers):
            yield found
        else:
            yield structure.id, "its embedding, energy or a force is not finite"


def _survived(error: Exception) -> Exception:
    """The error, without the tensors that its frames hold. Raises one that none can survive."""
    if not out_of_memory(error) and "CUDA error" in str(error):
        raise error  # this process can no longer use the device
    return error.with_traceback(None)


def edges_of(graph: Any) -> int:
    """The longest axis of a graph's arrays: its edges, or its angles where there are more."""
    parts = graph.values() if isinstance(graph, dict) else graph
    is_several = isinstance(graph, dict | tuple | list)
    shapes = [part.shape for part in (parts if is_several else ()) if hasattr(part, "shape")]
    return max((max(shape, default=0) for shape in shapes), default=0)


def precision(device: str) -> dict[str, Any]:
    """What float32 means to torch here: "ieee", or "tf32"; on a GPU no TF32, whatever was set.

    Empty where no torch is used. A package may have set it in torch's older way or in its newer
    one, and to ask in the older after the newer is an error.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    backends = torch.backends
    is_new = hasattr(backends, "fp32_precision")
    if device.startswith("cuda"):
        torch.set_float32_matmul_precision("highest")
        backends.cudnn.allow_tf32 = False
        if is_new:
            for part in (backends, backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn):
                part.fp32_precision = "ieee"
    if is_new:
        matmul, conv = backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision
    else:
        matmul = "tf32" if backends.cuda.matmul.allow_tf32 else "ieee"
        conv = "tf32" if backends.cudnn.allow_tf32 else "ieee"
    return {
        "matmul": "ieee" if matmul == "none" else matmul,
        "convolution": conv,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }


def automatic_batch_atoms(device: str) -> int:
    """Atoms in a forward pass: few on a CPU, where caches matter; on a GPU a cautious start.

    `GPU_BYTES_PER_ATOM` is a guess, not a measurement: `Embedder` adapts from there.
    """
    if not device.startswith("cuda"):
        return CPU_BATCH_ATOMS
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return max(CPU_BATCH_ATOMS, free // 8 // GPU_BYTES_PER_ATOM)


def memory_used(device: str) -> float | None:
    """The share of a GPU's memory that the largest forward pass so far took; None on a CPU."""
    if not device.startswith("cuda"):
        return None
    import torch

    _, total = torch.cuda.mem_get_info(device)
    return torch.cuda.max_memory_reserved(device) / total


def device_name(device: str) -> str:
    """ "cpu", or the name of the GPU."""
    if not device.startswith("cuda"):
        return device
    import torch

    return torch.cuda.get_device_name(device)


def out_of_memory(error: BaseException) -> bool:
    """Whether Python, CUDA or torch's CPU allocator ran out of memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text
    )


def _release_memory() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def symbol(number: int) -> str:
    """The symbol of an element, or "Z=…" for an unknown number."""
    symbols = SYMBOLS.split()
    return symbols[number - 1] if 0 < number <= len(symbols) else f"Z={number}"


def one_line(error: BaseException) -> str:
    """An exception as a line of text."""
    return " ".join(f"{type(error).__name__}: {error}".split())
