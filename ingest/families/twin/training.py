"""Trains twins: the same network on the same rattled crystals, with one supervision or another.

Only `targets` knows what an arm is. `train` gets numbers to fit, begins at the seed's weights and
takes the seed's batches, whichever arm the numbers come from.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch.nn import functional as F

from ingest.families import Structure
from ingest.families.twin.network import Graph, Network, side_by_side, untrained

Arm = Literal["forces", "denoising", "shuffled"]
ARMS: tuple[Arm, ...] = get_args(Arm)
MARKS = (0.0, 0.1, 0.3, 1.0)  # of all steps: where a checkpoint is kept


class Labels(NamedTuple):
    """What a foundation model says of each crystal.

    energies: (crystals,) eV an atom. forces: of each crystal (n, 3), eV/Å.
    """

    energies: np.ndarray
    forces: Sequence[np.ndarray]


class Targets(NamedTuple):
    """What an arm fits. Vectors have a root mean square of one.

    vectors: of each crystal (n, 3). energies: (crystals,) an atom, of which the vectors are the
    negative gradient (Å); None where there are none.
    """

    vectors: Sequence[np.ndarray]
    energies: np.ndarray | None


class Plan(NamedTuple):
    """How long and how fast to train: the same for every arm and seed."""

    architecture: Mapping[str, Any]
    steps: int
    batch: int = 16  # crystals
    rate: float = 2e-3  # Adam's, falling to zero along a cosine
    clip: float = 1.0  # the largest norm of a gradient

    @property
    def marks(self) -> list[int]:
        """The steps after which a checkpoint is kept."""
        return sorted({round(mark * self.steps) for mark in MARKS})


def rattled(structures: Sequence[Structure], width: float, seed: int) -> list[np.ndarray]:
    """Of each structure (n, 3) displacements of this standard deviation (Å), their mean zero."""
    rng = np.random.default_rng(seed)
    shifts = [rng.normal(0, width, (len(one.numbers), 3)) for one in structures]
    return [shift - shift.mean(0) for shift in shifts]


def targets(
    arm: Arm,
    numbers: Sequence[np.ndarray],
    compositions: Sequence[str],
    shifts: Sequence[np.ndarray],
    labels: Labels,
) -> Targets:
    """What an arm fits: forces and energies, the way back from a rattle, or another's labels.

    numbers: the atomic numbers of each crystal. Energies are what no sum over elements explains.
    Shuffled labels are the same ones, each on a crystal of another composition. Raises ValueError
    for so few crystals that elements explain everything.
    """
    if arm == "denoising":
        return Targets(_unit([-shift for shift in shifts])[0], None)
    vectors, scale = _unit(labels.forces)
    energies = _without_composition(labels.energies, numbers) / scale
    if arm == "shuffled":
        energies, vectors = _shuffled(energies, vectors, compositions)
    return Targets(vectors, energies)


def batches(crystals: int, size: int, seed: int) -> Iterator[np.ndarray]:
    """Which crystals each step sees, without end: every one once, in a new order each time."""
    size = min(size, crystals)
    epoch = 0
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(crystals)
        yield from np.split(order[: crystals // size * size], crystals // size)
        epoch += 1


def train(
    graphs: Sequence[Graph],
    wanted: Targets,
    plan: Plan,
    seed: int,
    path: Path,
    about: Mapping[str, Any],
    device: str = "cpu",
) -> Iterator[tuple[int, float]]:
    """Trains to the end, or goes on where it was left; yields (step, mean loss since the last one).

    The checkpoint of a step is `PATH-STEP.npz`. On one kind of machine, with as many threads, the
    same arguments give the same bytes.
    """
    torch.use_deterministic_algorithms(True)
    network = untrained(plan.architecture, seed).to(device).train()
    optimiser = torch.optim.Adam(network.parameters(), plan.rate)
    done = _resume(path, network, optimiser)
    spread = 1.0 if wanted.energies is None else float(wanted.energies.std())
    losses: list[float] = []
    order = batches(len(graphs), plan.batch, seed)
    for step, chosen in zip(range(plan.steps + 1), order, strict=False):
        if step in plan.marks and step > done:
            loss = float(np.mean(losses)) if losses else float("nan")
            save(checkpoint(path, step), network, {**about, "step": step, "loss": loss})
            torch.save(
                {"step": step, "network": network.state_dict(), "adam": optimiser.state_dict()},
                _state(path),
            )
            yield step, loss
            losses = []
        if step < done or step == plan.steps:
            continue
        for group in optimiser.param_groups:
            group["lr"] = plan.rate * (1 + math.cos(math.pi * step / plan.steps)) / 2
        found = _loss(network, [graphs[i] for i in chosen], wanted, chosen, spread, device)
        optimiser.zero_grad()
        found.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), plan.clip)
        optimiser.step()
        losses.append(float(found.detach()))


def checkpoint(path: Path, step: int) -> Path:
    """The file of a step."""
    return path.with_name(f"{path.name}-{step}.npz")


def save(path: Path, network: Network, about: Mapping[str, Any]) -> None:
    """Writes weights, architecture and what is known of their making, whole or not at all."""
    weights = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
    texts = {"architecture": network.architecture, "about": about}
    encoded = {name: np.array(json.dumps(text, sort_keys=True)) for name, text in texts.items()}
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **weights, **encoded)  # type: ignore[arg-type]
    partial.replace(path)


def known(path: Path) -> dict[str, Any]:
    """What a checkpoint says of its making: arm, seed, step, loss, training."""
    with np.load(path, allow_pickle=False) as arrays:
        about: dict[str, Any] = json.loads(str(arrays["about"]))
    return about


def _loss(
    network: Network,
    graphs: Sequence[Graph],
    wanted: Targets,
    chosen: np.ndarray,
    spread: float,
    device: str,
) -> torch.Tensor:
    """Huber's loss of vectors, and of energies an atom in units of their spread."""
    outputs, vectors = network(side_by_side(graphs, device))
    goal = np.concatenate([wanted.vectors[i] for i in chosen]).astype(np.float32)
    loss = F.smooth_l1_loss(vectors, torch.from_numpy(goal).to(device))
    if wanted.energies is None:
        return loss
    sizes = torch.tensor([len(graph.numbers) for graph in graphs], device=device)
    owners = torch.repeat_interleave(torch.arange(len(graphs), device=device), sizes)
    means = outputs.new_zeros(len(graphs)).index_add(0, owners, outputs) / sizes
    goal = wanted.energies[chosen].astype(np.float32)
    return loss + F.smooth_l1_loss(means / spread, torch.from_numpy(goal).to(device) / spread)


def _unit(vectors: Sequence[np.ndarray]) -> tuple[list[np.ndarray], float]:
    """Vectors in units of the root mean square of their components, and that."""
    scale = float(np.sqrt(np.mean(np.concatenate(vectors) ** 2)))
    return [one / scale for one in vectors], scale


def _without_composition(energies: np.ndarray, numbers: Sequence[np.ndarray]) -> np.ndarray:
    """What is left of energies an atom after a least-squares sum over elements."""
    shares = np.array([np.bincount(one, minlength=119) / len(one) for one in numbers])
    left: np.ndarray = energies - shares @ np.linalg.lstsq(shares, energies)[0]
    if left.std() < 1e-6:
        raise ValueError("the elements alone explain all energies: train on more crystals")
    return left


def _shuffled(
    energies: np.ndarray, vectors: Sequence[np.ndarray], compositions: Sequence[str]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The same labels, of crystals half of the list away in a random order of compositions.

    So no crystal keeps those of its own composition, if none has half of the crystals.
    """
    names, which = np.unique(np.asarray(compositions), return_inverse=True)
    place = np.random.default_rng(0).permutation(len(names))[which]
    order = np.argsort(place, kind="stable")
    moved = np.empty_like(energies)
    moved[order] = np.roll(energies[order], len(order) // 2)
    rows = np.concatenate([vectors[i] for i in order])
    rows = np.roll(rows, len(rows) // 2, axis=0)
    ends = np.cumsum([len(vectors[i]) for i in order])[:-1]
    parts: list[np.ndarray] = [np.empty(0)] * len(order)
    for i, part in zip(order, np.split(rows, ends), strict=True):
        parts[i] = part
    return moved, parts


def _state(path: Path) -> Path:
    return path.with_name(f"{path.name}.state.pt")


def _resume(path: Path, network: Network, optimiser: torch.optim.Optimizer) -> int:
    """Loads the state at the last mark, if there is one; how many steps it has behind it, or -1."""
    if not _state(path).exists():
        return -1
    state = torch.load(_state(path), weights_only=True)
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["adam"])
    return int(state["step"])


def identity(plan: Plan, crystals: Sequence[Structure], labels: Labels) -> str:
    """A hash of all that every checkpoint of a training depends on but arm and seed."""
    digest = hashlib.sha256(json.dumps(plan._asdict(), sort_keys=True).encode())
    arrays = [array for one in crystals for array in (one.numbers, one.positions, one.cell)]
    for array in (*arrays, labels.energies, *labels.forces):
        digest.update(np.ascontiguousarray(array, dtype=np.float64).tobytes())
    return digest.hexdigest()[:12]
