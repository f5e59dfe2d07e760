"""What each pooling of atoms finds: `structure_vectors.py STORE [--copies FOLDER]`, as Markdown.

For every model of the store at its default layer, controls included:

1. Copies of 300 crystals (half of them share their formula), rattled, strained, in another cell:
   how often a copy's nearest among all structures is its original; the same among structures of its
   own formula; and the median of the original's distance over that of the next.
2. Near duplicates: pairs of one formula, among the structures (labelled by pymatgen's
   StructureMatcher) and from copies to structures (a copy is the same crystal as its original):
   average precision; precision and recall at the threshold of best F1 on half of the formulas,
   measured on the other half.
3. The same prototype (Wyckoff sequence, or the column `aflow`) in structures without a common
   element: recall@10, with a bootstrap interval over queries, beside chance.
4. Ridge on formation energy and band gap, split by composition: R² and MAE, spread over folds.
5. Clusters, as `annotate` makes them of ten neighbours: how many, adjusted mutual information with
   prototypes and with sets of elements, and R² of a structure's formation energy and band gap by
   the mean over its cluster's other compositions, beside the same clusters with rows shuffled.

The copies, which parts 1 and 2 need, are embedded on the first run: some minutes a model on two
cores. `--parts 345` leaves those out.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from pymatgen.analysis.structure_matcher import StructureMatcher
from sklearn.linear_model import Ridge
from sklearn.metrics import (
    adjusted_mutual_info_score,
    average_precision_score,
    precision_recall_curve,
)
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.perturbed_crystals import WAYS, embedded, origins
from benchmarks.structure_labels import composition, has_element, prototypes
from platonic_store import Store
from platonic_store.geometry.clusters import close_pairs, mode_clusters
from platonic_store.geometry.neighbours import nearest, nearest_others, unit_rows
from platonic_store.geometry.pooling import POOLINGS
from platonic_store.geometry.sets import set_distance
from platonic_store.questions.shared.atom_sets import atom_sets
from platonic_store.questions.shared.crystals import crystals
from platonic_store.questions.shared.duplicates import POOLING, WITHIN
from platonic_store.questions.shared.pooled import Pooled, pooled
from platonic_store.storage import lookup
from platonic_store.storage.layout import Points
from platonic_store.storage.snapshot import Snapshot

COPIED = 300
QUERIES = 1000
ALPHA = 10.0  # of ridge, on standardised features
NEIGHBOURS = 10  # of clusters
TARGETS = ["formation_energy_per_atom", "band_gap"]


class Model(NamedTuple):
    """One model's structures and copies, by each pooling, and their atoms."""

    name: str
    here: dict[str, Pooled]
    atoms: Points
    copies: dict[str, Pooled]
    copied_atoms: Points | None


def models(store: Snapshot, names: list[str], copies: Snapshot | None) -> Iterator[Model]:
    for name in names:
        side = lookup.model_layer(store, name)
        table = lookup.vector_table(store, side, "atom")
        here = {one: pooled(store, table, one) for one in POOLINGS}
        if copies is None:
            yield Model(str(side), here, store.points(table), {}, None)
        else:
            theirs = lookup.vector_table(copies, side, "atom")
            there = {one: pooled(copies, theirs, one) for one in POOLINGS}
            yield Model(str(side), here, store.points(table), there, copies.points(theirs))


def table(title: str, header: list[str], rows: list[list[str]]) -> None:
    print(f"\n{title}\n\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def found_again(model: Model, formulas: pd.Series) -> tuple[list[list[str]], list[list[str]]]:
    """Of each pooling the shares found among all and among its own formula, and the margins."""
    everywhere, at_home = [], []
    for name in POOLINGS:
        here, copies = model.here[name], model.copies[name]
        of = origins(pd.Series(copies.ids))
        own = np.searchsorted(here.ids, of["original"].to_numpy(str))
        near, apart = nearest(copies.vectors, here.vectors, 2)
        is_own = near == own[:, None]
        next_ = np.where(is_own[:, 0], apart[:, 1], apart[:, 0])
        rows, candidates = unit_rows(copies.vectors), unit_rows(here.vectors)
        distance = np.round(1 - (rows * candidates[own]).sum(axis=1), 12)
        kinds = pd.factorize(formulas.loc[here.ids])[0]
        one, other, between = close_pairs(copies.vectors, kinds[own], here.vectors, kinds, 2)
        is_rival = other != own[one]
        rival = np.full(len(own), np.inf)
        np.minimum.at(rival, one[is_rival], np.round(between[is_rival], 12))
        all_found, found, margin = [], [], []
        for way in WAYS:
            is_way = (of["way"] == way).to_numpy()
            all_found.append(f"{(distance < next_)[is_way].mean():.3f}")
            found.append(f"{(distance < rival)[is_way & np.isfinite(rival)].mean():.3f}")
            ratio = distance[is_way] / np.where(next_ > 0, next_, np.nan)[is_way]
            margin.append(f"{np.nanmedian(ratio):.0e}" if np.isfinite(ratio).any() else "–")
        everywhere.append([model.name, name, *all_found])
        at_home.append([model.name, name, *found, margin[1], margin[3]])
    return everywhere, at_home


def candidate_pairs(formulas: pd.Series, copied: np.ndarray) -> pd.DataFrame:
    """Pairs of one formula: of structures, and of copies with structures where there are several.

    original: of the one; copies are of the same crystal as their originals.
    """
    known = pd.DataFrame({"id": formulas.index, "formula": formulas.to_numpy()})
    known = known[known["formula"].duplicated(keep=False)]
    both = known.merge(known, on="formula", suffixes=("", "_other"))
    both = both[both["id"] < both["id_other"]].assign(way="as they are", original=both["id"])
    of = origins(pd.Series(copied)).assign(id=copied)
    of["formula"] = formulas.loc[of["original"]].to_numpy()
    pairs: pd.DataFrame = pd.concat([both, of.merge(known, on="formula", suffixes=("", "_other"))])
    return pairs


def matched(store: Snapshot, pairs: pd.DataFrame) -> tuple[np.ndarray, float]:
    """What StructureMatcher says of each pair of originals, and the seconds that it took."""
    stored = pairs[pairs["way"] == "as they are"]
    cells = crystals(store, [*stored["id"], *stored["id_other"]])
    matcher, start = StructureMatcher(), time.perf_counter()
    same = {
        (a, b): matcher.fit(cells[a], cells[b])
        for a, b in zip(stored["id"], stored["id_other"], strict=True)
    }
    seconds = time.perf_counter() - start
    ends = zip(pairs["original"], pairs["id_other"], strict=True)
    return np.array([a == b or same[min(a, b), max(a, b)] for a, b in ends]), seconds


def pair_distances(model: Model, pairs: pd.DataFrame) -> dict[str, np.ndarray]:
    """Distance of each pair by each pooling, and by transport."""
    found = {}
    for name in POOLINGS:
        here, copies = model.here[name], model.copies[name]
        rows = unit_rows(np.concatenate([here.vectors, copies.vectors]))
        place = pd.Series(np.arange(len(rows)), np.concatenate([here.ids, copies.ids]))
        a, b = place.loc[pairs["id"]].to_numpy(), place.loc[pairs["id_other"]].to_numpy()
        found[name] = 1 - (rows[a] * rows[b]).sum(axis=1)
    sets = atoms_by_id(model.atoms)
    if model.copied_atoms is not None:
        sets |= atoms_by_id(model.copied_atoms)
    found["transport"] = np.array(
        [
            set_distance(*sets[a], *sets[b])
            for a, b in zip(pairs["id"], pairs["id_other"], strict=True)
        ]
    )
    return found


def atoms_by_id(points: Points) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    sets = atom_sets(points)
    ids = points.keys["structure_id"].take(sets.label).to_pylist()
    ends = zip(ids, sets.starts, sets.starts[1:], strict=False)
    return {id: (points.vectors[sets.rows[i:j]], sets.mass[i:j]) for id, i, j in ends}


def duplicates(model: Model, pairs: pd.DataFrame, same: np.ndarray) -> list[list[str]]:
    """Of each distance: average precision, and precision and recall on held-out formulas."""
    half = pd.util.hash_array(pairs["formula"].to_numpy(object)) % 2 == 0
    stored = (pairs["way"] == "as they are").to_numpy()
    rows = []
    for name, distance in pair_distances(model, pairs).items():
        precision, recall, at = precision_recall_curve(same[half], -distance[half])
        best = -at[np.argmax((precision * recall / (precision + recall + 1e-9))[:-1])]
        chosen = distance <= best
        spread = model.here[POOLING].spread
        default = distance <= WITHIN * spread if name == POOLING else None
        rows.append(
            [
                model.name,
                name,
                f"{average_precision_score(same[stored], -distance[stored]):.2f}",
                f"{average_precision_score(same[~stored], -distance[~stored]):.2f}",
                *quality(chosen[~half], same[~half]),
                *(quality(default, same) if default is not None else ("", "")),
                f"{np.quantile(distance[~stored & same], 0.95) / spread:.4f}",
            ]
        )
    return rows


def quality(chosen: np.ndarray, same: np.ndarray) -> tuple[str, str]:
    hit = (chosen & same).sum()
    return f"{hit / max(chosen.sum(), 1):.2f}", f"{hit / same.sum():.2f}"


def same_prototype(
    name: str, vectors: np.ndarray, labels: np.ndarray, elements: np.ndarray
) -> list[str]:
    """Recall@10 and rank 1 among structures that share no element, with the chance of each."""
    rows, dice = unit_rows(vectors).astype(np.float32), np.random.default_rng(0)
    found = []
    for query in dice.permutation(len(labels)):
        is_other = ~(elements[:, elements[query]]).any(axis=1)
        alike = labels == labels[query]
        if (alike & is_other).any():
            score = np.where(is_other, rows @ rows[query], -np.inf)
            ten = np.argsort(-score, kind="stable")[:10]
            found.append([alike[ten].any(), alike[ten].mean(), alike[ten[0]]])
            found[-1].append((alike & is_other).sum() / is_other.sum())
        if len(found) == QUERIES:
            break
    scores = np.array(found, dtype=float)
    means = dice.choice(scores, (200, len(scores)), axis=0).mean(axis=1)
    low, high = np.quantile(means[:, 0], [0.025, 0.975])
    any_of_ten = 1 - (1 - scores[:, 3]) ** 10
    return [
        name,
        f"{scores[:, 0].mean():.3f} ({low:.3f}–{high:.3f})",
        f"{any_of_ten.mean():.3f}",
        f"{scores[:, 1].mean():.3f}",
        f"{scores[:, 2].mean():.3f}",
        f"{scores[:, 3].mean():.3f}",
    ]


def ridge(vectors: np.ndarray, targets: np.ndarray, formulas: np.ndarray) -> list[str]:
    """R² and MAE of each target, mean and spread over five folds of compositions."""
    scores = []
    for train, test in GroupKFold(5).split(vectors, groups=formulas):
        fitted = make_pipeline(StandardScaler(), Ridge(ALPHA)).fit(vectors[train], targets[train])
        wrong = targets[test] - fitted.predict(vectors[test])
        spread = ((targets[test] - targets[train].mean(axis=0)) ** 2).sum(axis=0)
        scores.append(np.concatenate([1 - (wrong**2).sum(axis=0) / spread, abs(wrong).mean(0)]))
    mean, deviation = np.mean(scores, axis=0), np.std(scores, axis=0)
    return [f"{mean[i]:.3f} ± {deviation[i]:.3f}" for i in (0, 2, 1, 3)]


def clustered(vectors: np.ndarray, labels: np.ndarray, rows: pd.DataFrame) -> list[str]:
    """How many clusters there are, what they have in common with labels, and what they predict."""
    mode = mode_clusters(*nearest_others(vectors, NEIGHBOURS))
    shuffled = np.random.default_rng(0).permutation(mode)
    chemistry = rows["elements"].map(lambda some: "-".join(sorted(some))).to_numpy(str)
    cells = [str(len(np.unique(mode)))]
    cells += [f"{adjusted_mutual_info_score(one, mode):.3f}" for one in (labels, chemistry)]
    for name in TARGETS:
        told = [explained(rows[name], rows["formula"], one) for one in (mode, shuffled)]
        cells.append("{:.3f} ({:.3f})".format(*told))
    return cells


def explained(target: pd.Series, formulas: pd.Series, cluster: np.ndarray) -> float:
    """R² of a target by the mean over its cluster's other compositions; by that of all if alone."""
    frame = pd.DataFrame({"y": target.to_numpy(float), "f": formulas.to_numpy(), "c": cluster})
    whole = frame.groupby("c")["y"].agg(["sum", "count"]).loc[frame["c"]].to_numpy()
    own = frame.groupby(["c", "f"])["y"].transform("sum").to_numpy()
    others = whole[:, 1] - frame.groupby(["c", "f"])["y"].transform("count").to_numpy()
    y = frame["y"].to_numpy()
    guess = np.where(others > 0, (whole[:, 0] - own) / np.maximum(others, 1), y.mean())
    return float(1 - ((y - guess) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def copied_ids(known: pd.DataFrame, seed: int) -> list[str]:
    """Half of structures that share their formula, half of the others."""
    dice, shared = np.random.default_rng(seed), known["formula"].duplicated(keep=False)
    return sorted(
        id
        for part in (known[shared], known[~shared])
        for id in dice.choice(
            part["structure_id"].to_numpy(), min(COPIED // 2, len(part)), replace=False
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("store")
    parser.add_argument("--copies", help="where copies are kept; by default nowhere")
    parser.add_argument("--parts", default="12345")
    parser.add_argument("--models", help="by default all of the store", default="")
    options = parser.parse_args()
    store = Store.open(options.store, read_only=True).snapshot()
    known = store.frame("FROM structure ORDER BY structure_id")
    formulas = known.set_index("structure_id")["formula"]
    chosen = options.models.split(",") if options.models else list(store.models)
    copies, same = None, None
    if {"1", "2"} & {*options.parts}:
        folder = options.copies or tempfile.mkdtemp()
        originals = crystals(store, copied_ids(known[["structure_id", "formula"]], 0))
        copies = embedded(folder, dict(sorted(originals.items())), chosen, 0).snapshot()
    if copies is not None and "2" in options.parts:
        copied = copies.frame("SELECT structure_id FROM structure ORDER BY 1")["structure_id"]
        pairs = candidate_pairs(formulas, copied.to_numpy())
        same, seconds = matched(store, pairs)
    found, home, pairs_by, alike, fits, groups = [], [], [], [], [], []
    for model in models(store, chosen, copies):
        print(f"… {model.name}", flush=True)
        if "1" in options.parts:
            everywhere, at_home = found_again(model, formulas)
            found += everywhere
            home += at_home
        if same is not None:
            pairs_by += duplicates(model, pairs, same)
        for name in POOLINGS:
            ids, vectors = model.here[name].ids, model.here[name].vectors
            rows = known.set_index("structure_id").loc[ids]
            if "3" in options.parts:
                labels = prototypes(store, rows)
                cells = same_prototype(name, vectors, labels, has_element(rows["elements"]))
                alike.append([model.name, *cells])
            if "5" in options.parts and "band_gap" in rows:
                groups.append(
                    [model.name, name, *clustered(vectors, prototypes(store, rows), rows)]
                )
            if "4" in options.parts and "band_gap" in rows:
                targets = rows[TARGETS].to_numpy(float)
                fits.append(
                    [model.name, name, *ridge(vectors, targets, rows["formula"].to_numpy())]
                )
    ways = list(WAYS)
    if found:
        table("Nearest of all is the original", ["model", "pooling", *ways], found)
        margins = [f"own/next, {ways[1]}", f"own/next, {ways[3]}"]
        table("Nearest of its formula", ["model", "pooling", *ways, *margins], home)
    if same is not None:
        stored = (pairs["way"] == "as they are").to_numpy()
        title = (
            f"{stored.sum()} pairs, {same[stored].sum()} the same to StructureMatcher, which took "
            f"{seconds:.0f} s; {(~stored).sum()} with copies, {same[~stored].sum()} of one crystal"
        )
        header = ["AP, stored", "AP, copies", "precision", "recall", f"precision at {WITHIN}"]
        header += ["recall", "95 % of the same within"]
        table(title, ["model", "distance", *header], pairs_by)
    if alike:
        header = ["recall@10", "chance", "precision@10", "rank 1", "chance"]
        table("Same prototype, no common element", ["model", "pooling", *header], alike)
    if groups:
        header = ["clusters", "AMI, prototype", "AMI, elements", "R², E_f", "R², gap"]
        table("Clusters (of shuffled rows)", ["model", "pooling", *header], groups)
    if fits:
        targets = composition(known["structure_id"], store)
        values = known[TARGETS].to_numpy(float)
        cells = ridge(targets, values, known["formula"].to_numpy())
        fits.append(["composition", "fractions", *cells])
        header = ["E_f: R²", "MAE, eV/atom", "gap: R²", "MAE, eV"]
        table("Ridge, split by composition", ["model", "pooling", *header], fits)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="pymatgen|spglib")
    main()
