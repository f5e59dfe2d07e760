"""Where predictions are wrong: `committee.py SOURCE [--work STORE] [--model M …] [--frames N]`

SOURCE: frames with DFT forces, in any format that ASE reads (such as extxyz). WORK keeps the store
with what the models say of them: the same command goes on where it stopped. The models are by
default SevenNet-0, SevenNet-l3i5 and CHGNet 0.3.0, and TensorNet, M3GNet and Nequix-OMat where
their weights are here. FRAMES takes a sample (seed 0).

Printed is Markdown. For each committee and each target (the error of a model's forces, eV/Å; of a
structure the mean over its atoms): the Spearman correlation of each score with the error; in
brackets the same at fixed |F|, the size of the forces as the target predicts them (partial
correlation of ranks); and the AUROC of the worst tenth. Scores: the spread; how far the target is
from the mean of the others; |F|; atypicality to the target; disagreement; and joint predictors
(`geometry.committee.judge`) out of sample by composition. Then how often errors keep below their
conformal bound, for compositions that did not calibrate it. Intervals are of 200 resamples of
compositions. Models that share data share errors: the training sets stand beside each committee.
`--speed` prints instead what outputs cost: a worker's time for ten frames, in units of that for
the default layer alone.
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from platonic_store import Store
from platonic_store.errors import PlatonicError
from platonic_store.geometry.committee import judge
from platonic_store.questions.shared import forces
from platonic_store.runtimes.cards import layers_wanted, resolve
from platonic_store.runtimes.preparation import prepare
from platonic_store.runtimes.workers import WorkerPool
from platonic_store.storage.layout import PRIMARY_KEY
from platonic_store.storage.snapshot import Snapshot
from platonic_store.structures import read

MODELS = [
    *("sevennet-0", "sevennet-l3i5", "chgnet-0.3.0"),
    *("tensornet-matpes-pbe", "m3gnet-matpes-pbe", "nequix-omat-1"),
]
JOINT = {
    "joint: spread, |F|": ["spread", "|F|"],
    "joint: … and atypicality": ["spread", "|F|", "atypicality"],
    "joint: … and disagreement": ["spread", "|F|", "atypicality", "disagreement"],
    "joint: without spread": ["|F|", "atypicality", "disagreement"],
}
XYZ = ["fx", "fy", "fz"]
COVERAGES = (0.8, 0.9, 0.95)
RESAMPLES = 200


def committees(models: list[str]) -> dict[str, list[str]]:
    """By lineage: all of MPtrj, one a family, one a training set, and all."""
    mptrj = [one for one in models if "MPtrj" in resolve(one).training_sets]
    families = {resolve(one).family: one for one in reversed(models)}
    sets = {resolve(one).training_sets: one for one in reversed(models)}
    found = {
        "trained on MPtrj, kin among them": mptrj,
        "trained on MPtrj, one a family": [one for one in mptrj if one in families.values()],
        "one a training set": [one for one in models if one in sets.values()],
        "all": models,
    }
    return {name: chosen for name, chosen in found.items() if len(chosen) > 1}


def embedded(source: Path, folder: Path, models: list[str], count: int | None) -> Store:
    """The store of the frames with what each model says of them, as far as it can run here."""
    frames = list(ase.io.iread(source, ":"))
    chosen = np.sort(np.random.default_rng(0).permutation(len(frames))[:count])
    path = folder / "sample.extxyz"
    ase.io.write(path, [frames[i] for i in chosen], format="extxyz")
    store = Store.open(folder / "frames.store")
    for model in models:
        try:
            _, (run,) = store.ingest(path, [model], outputs="energy,forces")
            if run.run:
                print(f"{model}: {run.sites / run.seconds_forward:.0f} atoms/s of a worker\n")
        except PlatonicError as error:
            print(f"{model} is left out: {error}\n")
    store.score()
    return store


def atoms_of(snapshot: Snapshot, chosen: list[str], target: str, labels: str) -> pd.DataFrame:
    """A row an atom with a label: the scores and the error."""
    rows = forces.by_atom(snapshot, chosen).rename(columns={"force": "mean force"})
    mean = rows[XYZ].to_numpy() * len(chosen)
    own = forces.of_model(snapshot, target)
    rows = rows.drop(columns=XYZ).merge(own, on=PRIMARY_KEY["atom"], how="left", sort=False)
    said = rows[XYZ].to_numpy()
    rows["|F|"] = np.linalg.norm(said, axis=1)
    others = (mean - said) / (len(chosen) - 1) if target in chosen else mean / len(chosen)
    rows["from the others"] = np.linalg.norm(said - others, axis=1)
    rows["error"] = forces.errors(rows, forces.labels(snapshot, labels))
    typical = snapshot.frame(
        "SELECT structure_id, orbit, atypicality FROM atom_typicality "
        "JOIN site USING (structure_id, site_index) WHERE model = ?",
        [target],
    )
    differing = snapshot.frame(
        "SELECT structure_id, orbit, 1 - avg(agreement) AS disagreement FROM atom_agreement "
        "JOIN site USING (structure_id, site_index) WHERE list_contains(?, model) "
        "AND list_contains(?, other) GROUP BY ALL",
        [chosen, chosen],
    )
    orbits = snapshot.frame("SELECT structure_id, site_index, orbit FROM site")
    rows = rows.merge(orbits, on=PRIMARY_KEY["atom"], how="left", sort=False)
    for scores in (typical, differing):
        rows = rows.merge(scores, on=["structure_id", "orbit"], how="left", sort=False)
    return rows[rows["error"].notna()].reset_index(drop=True)


def structures_of(atoms: pd.DataFrame) -> pd.DataFrame:
    """Means over atoms, of atypicality and disagreement the largest."""
    scores = ["spread", "|F|", "from the others", "error"]
    found = atoms.groupby("structure_id")
    rows = found[scores].mean().join(found[["atypicality", "disagreement"]].max())
    return rows.join(found["formula"].first()).reset_index()


def partial(score: np.ndarray, error: np.ndarray, given: np.ndarray) -> tuple[float, float]:
    """Spearman, and the same at fixed `given`: the partial correlation of ranks."""
    ranks = np.corrcoef([rankdata(one) for one in (score, error, given)])
    a, b, c = ranks[0, 1], ranks[0, 2], ranks[1, 2]
    rest = (1 - b**2) * (1 - c**2)
    return float(a), float((a - b * c) / np.sqrt(rest)) if rest > 1e-9 else float("nan")


def worst_tenth(score: np.ndarray, error: np.ndarray) -> float:
    """AUROC of the tenth with the largest errors."""
    return float(roc_auc_score(error >= np.quantile(error, 0.9), score))


def measured(rows: pd.DataFrame) -> dict[str, str]:
    """A line of the table for each score, over rows that have all scores."""
    groups = forces.compositions(rows["formula"])
    error, given = rows["error"].to_numpy(), rows["|F|"].to_numpy()
    scores = {
        name: rows[name].to_numpy()
        for name in ("spread", "from the others", "|F|", "atypicality", "disagreement")
    }
    for name, features in JOINT.items():
        scores[name] = judge(rows[features].to_numpy(), error, groups).expected
    lines = {}
    for name, score in scores.items():
        there = np.isfinite(score)
        if there.sum() < 20:
            continue
        one, other, fixed = score[there], error[there], given[there]
        whole, at_fixed = partial(one, other, fixed)
        low, high = interval(one, other, groups[there])
        lines[name] = (
            f"{whole:.2f} ({low:.2f}–{high:.2f}) | {at_fixed:.2f} | {worst_tenth(one, other):.2f}"
        )
    return lines


def interval(score: np.ndarray, error: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """5 and 95 % of Spearman over resamples of compositions."""
    rng = np.random.default_rng(0)
    order = np.argsort(groups, kind="stable")
    names, starts = np.unique(groups[order], return_index=True)
    members = np.split(order, starts[1:])
    found = []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([members[i] for i in rng.integers(len(names), size=len(names))])
        ranks = rankdata(score[drawn]), rankdata(error[drawn])
        found.append(np.corrcoef(ranks)[0, 1])
    return np.asarray(np.quantile(found, [0.05, 0.95]))


def covered(rows: pd.DataFrame) -> str:
    """The share of errors below their bounds, each composition with the same weight."""
    groups, error = forces.compositions(rows["formula"]), rows["error"].to_numpy()
    parts = []
    for coverage in COVERAGES:
        bound = judge(rows[["spread", "|F|"]].to_numpy(), error, groups, coverage).bound
        there = np.isfinite(bound)
        if not there.any():
            parts.append(f"too few labels at {coverage:g}")
            continue
        by_group = pd.Series(error[there] <= bound[there]).groupby(groups[there]).mean()
        ratio = np.median(bound[there]) / np.median(error[there])
        parts.append(f"{by_group.mean():.3f} at {coverage:g} (median bound {ratio:.1f} × error)")
    return ", ".join(parts)


def speed(source: Path, models: list[str]) -> None:
    """Print the forward passes' time, the ways in turn, the best of two rounds."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.extxyz"
        ase.io.write(path, list(ase.io.iread(source, ":10")), format="extxyz")
        (batch,) = read(path)
    structures = batch.structures.select(["id", "numbers", "positions", "cell", "pbc"])
    print("| model | default layer, atoms/s | last layer | energy | energy, forces |")
    print("|---|---|---|---|---|")
    for ready in prepare(models):
        default, last = (layers_wanted(ready.card, name) for name in ("default", "last"))
        ways = [(default, ()), (last, ()), (default, ("energy",)), (default, ("energy", "forces"))]
        best, atoms = np.full(len(ways), np.inf), sum(map(len, structures["numbers"].to_pylist()))
        with ExitStack() as stack:
            pools = [
                stack.enter_context(
                    WorkerPool(ready.card, layers, outputs=outputs, python=ready.python, workers=1)
                )
                for layers, outputs in ways
            ]
            for place in (*range(len(ways)), *range(len(ways))):
                seconds = sum(one.seconds_forward for one in pools[place].embed([structures]))
                best[place] = min(best[place], seconds)
        ratios = " | ".join(f"{ratio:.1f}" for ratio in best[1:] / best[0])
        print(f"| {ready.card.name} | {atoms / best[0]:.0f} | {ratios} |", flush=True)


def report(snapshot: Snapshot, name: str, chosen: list[str], labels: str) -> None:
    sets = "; ".join(f"{one}: {', '.join(resolve(one).training_sets)}" for one in chosen)
    print(f"\n## Committee {name}\n\n{sets}\n")
    for target in chosen:
        atoms = atoms_of(snapshot, chosen, target, labels)
        for level, rows in (("structures", structures_of(atoms)), ("atoms", atoms)):
            count = rows["formula"].nunique()
            print(f"\nError of {target}, {len(rows)} {level} of {count} compositions\n")
            print("| score | Spearman | at fixed \\|F\\| | AUROC, worst tenth |\n|---|---|---|---|")
            for score, line in measured(rows).items():
                print(f"| {score.replace('|', chr(92) + '|')} | {line} |")
            print(f"\nBelow the bound: {covered(rows)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--model", action="append")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--labels", default="forces", help="the property that holds DFT forces")
    parser.add_argument("--speed", action="store_true")
    asked = parser.parse_args()
    if asked.speed:
        speed(asked.source, asked.model or MODELS)
        return
    with tempfile.TemporaryDirectory() as folder:
        work = asked.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        store = embedded(asked.source, work, asked.model or MODELS, asked.frames)
        snapshot = store.snapshot()
        rows = snapshot.rows("SELECT DISTINCT model FROM atom_predictions")
        here = {name for (name,) in rows}
        models = [one for one in asked.model or MODELS if one in here]
        for name, chosen in committees(models).items():
            report(snapshot, name, chosen, asked.labels)


if __name__ == "__main__":
    main()
