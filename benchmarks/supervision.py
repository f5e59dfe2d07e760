"""Which supervision makes a model find others' atoms: `supervision.py STORE OUT [--steps N …]`.

Trains the supervision twins (docs/supervision.md): one small network, the same rattled crystals,
batches, steps and first weights, supervised by a foundation model's energies and forces (`forces`),
by the way back from the rattle (`denoising`), by energies and forces of other compositions
(`shuffled`), or not at all (step 0). Then searches each twin's atoms among each foundation model's,
and the other way round: recall@1 and @10, by step of training, mean and standard deviation of the
seeds, in the recipe `whitened` and in a consensus of the twin and the foundation model alone.

Half of the compositions, by content, are asked and may answer, and no twin is trained on them; the
crystals that are trained on and the anchors are of the other half. The null is shuffled atoms'
recall@10. OUT keeps labels, checkpoints (a file each, to ingest) and results: the same command goes
on where it was stopped, and one with other numbers of anchors, layers or models reuses what it can.
The teacher must be importable here. Printed is docs/supervision.md's tables.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as torch wants for the same numbers
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pandas as pd

from platonic_store import Store
from platonic_store.geometry.anchors import random_rows
from platonic_store.geometry.consensus import LIKE_THE_CONSENSUS, choose, consensus, join
from platonic_store.geometry.projection import fit, project
from platonic_store.geometry.retrieval import hits_at
from platonic_store.questions.shared.pairing import paired_embeddings
from platonic_store.runtimes.cards import resolve
from platonic_store.runtimes.cores import usable_cores
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import Snapshot

from ingest.families import Structure, load, part, sha256  # isort: skip
from ingest.families.twin import network, training  # isort: skip

Rows = tuple[np.ndarray, np.ndarray]  # of the anchors, of the answers
RECIPES = ("whitened", "aligned")
CRYSTALS = 50  # in a forward pass, or in one message to a process


class Split(NamedTuple):
    """Which crystals are trained on, which atoms are anchors, may answer and are asked.

    anchors, answers: places of `keys`. asked: places of `answers`.
    """

    crystals: dict[str, Structure]
    compositions: dict[str, str]
    trained: list[str]
    keys: pd.DataFrame
    anchors: np.ndarray
    answers: np.ndarray
    asked: np.ndarray


def split(snapshot: Snapshot, models: Sequence[str], options: argparse.Namespace) -> Split:
    """By composition, of what all foundation models have embedded."""
    keys = paired_embeddings(snapshot, [lookup.model_layer(snapshot, m) for m in models]).keys
    frame = snapshot.frame("SELECT structure_id, formula FROM structure")
    compositions = dict(zip(frame["structure_id"], frame["formula"], strict=True))
    formulas = keys["structure_id"].map(compositions).to_numpy()
    names = (keys["structure_id"] + ":" + keys["site_index"].astype(str)).to_numpy()
    known = np.unique(formulas)
    held_out = np.isin(formulas, known[random_rows(known, len(known) // 2, seed=1)])
    others = np.unique(keys["structure_id"][held_out])
    some = random_rows(others, min(options.candidates or len(others), len(others)), seed=4)
    answers = np.flatnonzero(keys["structure_id"].isin(others[some]))
    pool = np.flatnonzero(~held_out)
    crystals = _crystals(snapshot)
    elements = set(resolve("control:twin:forces").elements)
    fit_for_it = [
        name
        for name in sorted(keys["structure_id"][pool].unique())
        if elements.issuperset(crystals[name].numbers.tolist())
    ]
    some = random_rows(fit_for_it, min(options.structures or len(fit_for_it), len(fit_for_it)), 3)
    return Split(
        crystals,
        compositions,
        [fit_for_it[i] for i in np.sort(some)],
        keys,
        pool[np.sort(random_rows(names[pool], options.anchors, seed=0))],
        answers,
        np.sort(random_rows(names[answers], min(options.asked, len(answers)), seed=2)),
    )


def _crystals(snapshot: Snapshot) -> dict[str, Structure]:
    frame = snapshot.frame("SELECT structure_id, numbers, positions, cell, pbc FROM crystals")
    return {
        id_: Structure(
            id_,
            np.array(numbers),
            np.reshape(xyz, (-1, 3)),
            np.reshape(cell, (3, 3)),
            np.array(pbc),
        )
        for id_, numbers, xyz, cell, pbc in frame.itertuples(index=False)
    }


class Data(NamedTuple):
    """What the twins are trained on."""

    crystals: list[Structure]  # rattled
    shifts: list[np.ndarray]
    compositions: list[str]
    labels: training.Labels


def data(chosen: Split, options: argparse.Namespace) -> Data:
    """Rattled crystals, and what the teacher says of them, computed once."""
    ids = chosen.trained * options.copies
    relaxed = [chosen.crystals[id_] for id_ in ids]
    shifts = training.rattled(relaxed, options.rattle, seed=0)
    crystals = [
        one._replace(positions=one.positions + shift)
        for one, shift in zip(relaxed, shifts, strict=True)
    ]
    key = f"{options.teacher} {options.rattle} {options.copies} {'/'.join(chosen.trained)}"
    file = options.out / f"labels-{hashlib.sha256(key.encode()).hexdigest()[:12]}.npz"
    if not file.exists():
        ask = partial(labels, options.teacher, options.device)
        parts = [crystals[i : i + CRYSTALS] for i in range(0, len(crystals), CRYSTALS)]
        found = [one for part in _in_processes(ask, parts, options, "labels") for one in part]
        partial_file = file.with_suffix(".partial.npz")
        energies = np.array([energy for energy, _ in found])
        np.savez(partial_file, energies=energies, forces=np.concatenate([f for _, f in found]))
        partial_file.replace(file)
    with np.load(file) as arrays:
        ends = np.cumsum([len(one.numbers) for one in crystals])[:-1]
        known = training.Labels(arrays["energies"], np.split(arrays["forces"], ends))
    return Data(crystals, shifts, [chosen.compositions[id_] for id_ in ids], known)


def labels(
    teacher: str, device: str, crystals: Sequence[Structure]
) -> list[tuple[float, np.ndarray]]:
    """Energy (eV an atom) and forces (eV/Å) by the teacher's own calculator."""
    from ase import Atoms

    found = []
    for one in crystals:
        atoms = Atoms(one.numbers, one.positions, cell=one.cell, pbc=one.pbc)
        atoms.calc = _calculator(teacher, device)
        found.append((float(atoms.get_potential_energy()) / len(atoms), atoms.get_forces()))
    return found


@cache
def _calculator(teacher: str, device: str) -> Any:
    card = resolve(teacher).as_dict()
    return part(card, "official").calculator(load(card, device))


def train(
    job: tuple[training.Arm, int], given: Data, plan: training.Plan, folder: Path, device: str
) -> list[str]:
    """One arm from one seed; what was printed."""
    arm, seed = job
    numbers = [one.numbers for one in given.crystals]
    wanted = training.targets(arm, numbers, given.compositions, given.shifts, given.labels)
    graphs = [network.build_graph(one, plan.architecture["cutoff"]) for one in given.crystals]
    about = {"arm": arm, "seed": seed, "training": folder.name}
    path = folder / f"{arm}-{seed}"
    steps = training.train(graphs, wanted, plan, seed, path, about, device)
    return [f"{arm:9} seed {seed} step {step:6} loss {loss:.4f}" for step, loss in steps]


class Measured(NamedTuple):
    """Recall of one pair in one recipe: @1 and @10 of the first asking and answering."""

    row: str
    step: int
    seed: int
    layer: int
    other: str
    recipe: str
    asks: tuple[float, float]
    answers: tuple[float, float]
    null: float


def recalls(a: np.ndarray, b: np.ndarray, asked: np.ndarray) -> tuple[float, float]:
    """@1 and @10 of rows `asked` of a among all of b."""
    none = np.empty((len(asked), 0), dtype=np.int64)
    one, ten = (float(hits_at(k, a[asked], b, asked, none)[0].mean()) for k in (1, 10))
    return one, ten


def coordinates(recipe: str, pair: Sequence[Rows], compositions: np.ndarray) -> list[np.ndarray]:
    """Both models' answers in the pair's own space."""
    anchors = [one for one, _ in pair]
    penalty = choose(anchors, compositions).penalty if recipe == "aligned" else None
    if penalty is None:
        fitted = [fit("whitened", one) for one in anchors]
    else:
        targets = consensus(anchors, penalty)
        fitted = [join(one, targets, penalty, LIKE_THE_CONSENSUS) for one in anchors]
    return [project(how, rows) for how, (_, rows) in zip(fitted, pair, strict=True)]


def compare(
    one: Rows, other: Rows, compositions: np.ndarray, asked: np.ndarray
) -> Iterator[tuple[str, tuple[float, float], tuple[float, float], float]]:
    """Recipe, recalls as asking and as answering, null."""
    for recipe in RECIPES:
        a, b = coordinates(recipe, (one, other), compositions)
        order = np.random.default_rng(0).permutation(len(b))
        yield recipe, recalls(a, b, asked), recalls(b, a, asked), recalls(a, b[order], asked)[1]


def embedded(twin: str, checkpoint: Path, layer: int, chosen: Split, device: str) -> Rows:
    """A twin's rows, by its adapter."""
    card = resolve(twin).as_dict()
    if card["loader"] != "untrained":
        card |= {"checkpoint": str(checkpoint), "checkpoint_sha256": sha256(checkpoint)}
    model = load(card, device)
    wanted = chosen.keys.iloc[np.concatenate([chosen.anchors, chosen.answers])]
    ids = wanted["structure_id"].unique()
    sizes = np.array([len(chosen.crystals[id_].numbers) for id_ in ids])
    first = pd.Series(np.cumsum(sizes) - sizes, ids)
    rows = []
    for start in range(0, len(ids), CRYSTALS):
        graphs = [model.graph(chosen.crystals[id_]) for id_ in ids[start : start + CRYSTALS]]
        rows.append(model.embed(graphs, [layer])[layer])
    places = first[wanted["structure_id"]].to_numpy() + wanted["site_index"].to_numpy()
    found = np.concatenate(rows)[places]
    return found[: len(chosen.anchors)], found[len(chosen.anchors) :]


def measure(
    job: tuple[str, int, int, Path | None],
    rows_of: dict[str, Rows],
    done: set[tuple[str, int, int, str]],
    chosen: Split,
    options: argparse.Namespace,
) -> list[Measured]:
    """One checkpoint, or one model of the store, against every foundation model."""
    row, step, seed, checkpoint = job
    others = [m for m in options.models if m != row and (row, step, seed, m) not in done]
    if not others:
        return []
    if checkpoint is None:
        own = rows_of[row]
    else:
        name = f"control:twin:{row}:{seed}" + (f":{step}" if row != "untrained" else "")
        own = embedded(name, checkpoint, options.layer, chosen, options.device)
    compositions = (
        chosen.keys["structure_id"].iloc[chosen.anchors].map(chosen.compositions).to_numpy()
    )
    return [
        Measured(row, step, seed, options.layer, other, *found)
        for other in others
        for found in compare(own, rows_of[other], compositions, chosen.asked)
    ]


def measure_all(
    snapshot: Snapshot,
    chosen: Split,
    folder: Path,
    plan: training.Plan,
    options: argparse.Namespace,
) -> pd.DataFrame:
    """All that is asked for, of which results of earlier runs are read."""
    key = f"{options.anchors} {options.asked} {options.layer} {chosen.keys.to_json()}"
    file = folder / f"recalls-{hashlib.sha256(key.encode()).hexdigest()[:12]}.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    found = [Measured(**json.loads(line)) for line in lines]
    done = {(one.row, one.step, one.seed, one.other) for one in found}
    beside = [name for name in options.beside if name not in options.models]
    rows_of = {name: _stored(snapshot, name, chosen) for name in [*options.models, *beside]}
    jobs: list[tuple[str, int, int, Path | None]] = [(name, 0, 0, None) for name in rows_of]
    for seed in range(options.seeds):
        for step in plan.marks[::-1]:
            for arm in training.ARMS if step else training.ARMS[:1]:
                path = training.checkpoint(folder / f"{arm}-{seed}", step)
                jobs.append((arm if step else "untrained", step, seed, path))
    ask = partial(measure, rows_of=rows_of, done=done, chosen=chosen, options=options)
    with file.open("a") as sink:
        for new in _in_processes(ask, jobs, options, "measured"):
            sink.writelines(json.dumps(one._asdict()) + "\n" for one in new)
            sink.flush()
            found += new
    return pd.DataFrame(found)


def _stored(snapshot: Snapshot, model: str, chosen: Split) -> Rows:
    """A stored model's rows."""
    keys, (vectors,), _ = paired_embeddings(snapshot, [lookup.model_layer(snapshot, model)])
    names = ["structure_id", "site_index"]
    place = pd.Series(np.arange(len(keys)), pd.MultiIndex.from_frame(keys[names]))
    rows = vectors[place[pd.MultiIndex.from_frame(chosen.keys[names])].to_numpy()]
    return rows[chosen.anchors], rows[chosen.answers]


def _in_processes(
    function: Callable[[Any], Any], items: Iterable[Any], options: argparse.Namespace, what: str
) -> Iterator[Any]:
    """`map`, by as many processes as wanted; the count goes to stderr."""
    items = list(items)
    results: Iterator[Any] = map(function, items)
    if options.workers > 1:
        pool = ProcessPoolExecutor(options.workers, get_context("spawn"))
        results = pool.map(function, items)
    for i, result in enumerate(results, start=1):
        print(f"{what}: {i} of {len(items)}", file=sys.stderr, flush=True)
        yield result


def losses(folder: Path, plan: training.Plan, options: argparse.Namespace) -> None:
    """How well each arm fits its own labels: the mean loss since the step before."""
    print("\ntraining loss, mean of the seeds\n\n| twin |", end="")
    print("".join(f" to step {step} |" for step in plan.marks[1:]))
    print(f"|{'---|' * len(plan.marks)}")
    for arm in training.ARMS:
        print(f"| {arm} |", end="")
        for step in plan.marks[1:]:
            paths = (folder / f"{arm}-{seed}" for seed in range(options.seeds))
            found = [training.known(training.checkpoint(path, step))["loss"] for path in paths]
            print(f" {np.mean(found):.3f} |", end="")
        print()


def report(found: pd.DataFrame, options: argparse.Namespace) -> None:
    """A table a recipe and direction: a row for each twin and step, a column a foundation model."""
    for recipe in RECIPES:
        for side, says in (("asks", "the row's model asks"), ("answers", "the column's asks")):
            print(f"\n{recipe}, {says}: recall@1 / @10\n")
            print(f"| twin | step | {' | '.join(options.models)} | null |")
            print(f"|{'---|' * (len(options.models) + 3)}")
            some = found[found["recipe"] == recipe]
            pairs = some[["row", "step"]].drop_duplicates().itertuples(index=False)
            for row, step in sorted(pairs, key=_place):
                mine = some[(some["row"] == row) & (some["step"] == step)]
                cells = [_cell(mine.loc[mine["other"] == m, side]) for m in options.models]
                print(f"| {row} | {step or ''} | {' | '.join(cells)} | {mine['null'].max():.4f} |")


def _place(pair: tuple[str, int]) -> tuple[int, str, int]:
    """Twins come first, by arm and step."""
    row, step = pair
    known = ["untrained", *training.ARMS]
    return known.index(row) if row in known else len(known), row, step


def _cell(values: "pd.Series[Any]") -> str:
    """Mean and, of several seeds, standard deviation."""
    if values.empty:
        return ""
    seeds = np.stack([np.asarray(one) for one in values])
    means = "{:.3f} / {:.3f}".format(*seeds.mean(0))
    if len(seeds) == 1:
        return means
    return means + " (± {:.3f} / {:.3f})".format(*seeds.std(0, ddof=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store")
    parser.add_argument("out", type=Path)
    parser.add_argument("--teacher", default="sevennet-0")
    parser.add_argument("--models", nargs="+", help="foundation models; by default all trained")
    parser.add_argument(
        "--beside", nargs="+", help="others to compare; by default all of the store"
    )
    parser.add_argument("--structures", type=int, help="to train on; by default all of the half")
    parser.add_argument("--copies", type=int, default=4, help="rattles of each")
    parser.add_argument("--rattle", type=float, default=0.1, help="standard deviation, Å")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--candidates", type=int, help="crystals that may answer; by default all")
    parser.add_argument("--anchors", type=int, default=2048)
    parser.add_argument("--asked", type=int, default=2000)
    parser.add_argument("--layer", type=int, default=resolve("control:twin:forces").default_layer)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--workers", type=int, help="processes; by default a core each, one on a GPU"
    )
    options = parser.parse_args()
    options.workers = options.workers or (usable_cores() if options.device == "cpu" else 1)
    options.out.mkdir(parents=True, exist_ok=True)
    snapshot = Store.open(options.store).snapshot()
    options.models = options.models or snapshot.trained_models
    options.beside = options.beside or list(snapshot.models)
    chosen = split(snapshot, options.models, options)
    given = data(chosen, options)
    architecture = resolve("control:twin:forces").architecture
    assert architecture is not None
    plan = training.Plan(architecture, options.steps)
    folder = options.out / training.identity(plan, given.crystals, given.labels)
    folder.mkdir(exist_ok=True)
    print(
        f"{len(given.crystals):,} rattled crystals of {len(chosen.trained):,}; "
        f"{options.teacher} teaches; {plan.steps:,} steps of {plan.batch}; "
        f"{len(chosen.asked):,} atoms are asked, "
        f"{len(chosen.answers):,} may answer; {len(chosen.anchors):,} anchors; "
        f"layer {options.layer}; {folder}"
    )
    jobs = [(arm, seed) for seed in range(options.seeds) for arm in training.ARMS]
    run = partial(train, given=given, plan=plan, folder=folder, device=options.device)
    for lines in _in_processes(run, jobs, options, "trained"):
        print("\n".join(lines), file=sys.stderr, flush=True)
    losses(folder, plan, options)
    report(measure_all(snapshot, chosen, folder, plan, options), options)


if __name__ == "__main__":
    main()
