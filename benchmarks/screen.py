"""What `screen` and `compare-sets` find: `screen.py STORE [--perov PEROV.csv.gz] [--work FOLDER]`

STORE holds crystals embedded by the models named. One composition in four is held out of what is
known. Sets whose answer is known are made of `--count` crystals each: held-out ones as they are;
rattled (Gaussian, σ in Å along each axis); with their elements shuffled over the sites; with atoms
at random places (none nearer than 1.2 Å where that can be had); known ones with each element
replaced by another of its group, to a composition that is not known; and known ones again, moved by
0.01 Å or doubled. Printed are the share of each set in each class; how many of the first are worth
computing, in our order and in others; the AUROC of each score, of ours and of ManiFish's, for each
set against the held-out crystals, by each model; what the sets are to `compare-sets`; and the
limits' error rates. FOLDER keeps the made crystals with their embeddings, for the next run. Printed
is Markdown.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from ase import Atoms
from ase.data import covalent_radii
from pymatgen.core.periodic_table import Element
from sklearn.metrics import roc_auc_score

from benchmarks import manifish
from benchmarks.typicality import crystals, distorted
from platonic_store import Store
from platonic_store.geometry.anchors import random_rows
from platonic_store.geometry.neighbours import unit_rows
from platonic_store.questions.compare_sets import MEASURES, compared
from platonic_store.questions.screen import screened
from platonic_store.questions.shared.duplicates import WITHIN
from platonic_store.questions.shared.screening.known import Known, Measured, known
from platonic_store.questions.shared.screening.limits import (
    CLASSES,
    OUTSIDE,
    SPARSE,
    limits_of,
    rates,
)
from platonic_store.questions.shared.structure_queries import trained_sides
from platonic_store.questions.shared.structure_sets import StructureSet
from platonic_store.storage.snapshot import ModelLayer, Snapshot
from platonic_store.structures import Crystal
from platonic_store.structures.sources import records

HELD_OUT = "hash(formula) % 4 = 0"
AMONG = f"NOT ({HELD_OUT})"
TRUE = "held out"  # the set of real crystals that nothing is known of
NEW = (TRUE, "substituted")  # worth computing
WAYS = ("rattled 0.1", "rattled 0.3", "rattled 0.5", "shuffled", "random")
ANCHORS = 100


def made(store: Store, count: int) -> Iterator[tuple[str, Atoms]]:
    """The crystals of every set; ids are "set:id"."""
    pool, base = crystals(store, HELD_OUT), crystals(store, AMONG)
    for i, id_ in enumerate(_chosen(pool, count)):
        yield f"{TRUE}:{id_}", pool[id_]
        changed = distorted(pool[id_], np.random.default_rng(i))
        for way in WAYS:
            yield f"{way}:{id_}", changed[way]
    formulas = {atoms.get_chemical_formula("reduce") for atoms in (pool | base).values()}
    for i, id_ in enumerate(_chosen(base, count)):
        rng = np.random.default_rng(i)
        moved = base[id_].copy()
        moved.positions += rng.normal(scale=0.01, size=moved.positions.shape)
        yield f"known, moved:{id_}", moved
        yield f"known, doubled:{id_}", base[id_] * (1, 1, 2)
        other = substituted(base[id_], rng)
        if other is not None and other.get_chemical_formula("reduce") not in formulas:
            yield f"substituted:{id_}", other


def _chosen(pool: dict[str, Atoms], count: int) -> list[str]:
    ids = sorted(pool)
    return [ids[row] for row in np.sort(random_rows(ids, min(count, len(ids)), seed=0))]


def substituted(atoms: Atoms, rng: np.random.Generator) -> Atoms | None:
    """Each element replaced by another of its group, the cell scaled with the covalent radii."""
    new: Atoms = atoms.copy()
    for number in np.unique(atoms.numbers):
        own = Element.from_Z(int(number))
        # Of heavier elements few are in any training set.
        group = [z for z in range(3, 84) if Element.from_Z(z).group == own.group and z != number]
        group = [z for z in group if Element.from_Z(z).is_lanthanoid == own.is_lanthanoid]
        if not group:
            return None
        new.numbers[atoms.numbers == number] = rng.choice(group)
    scale = covalent_radii[new.numbers].sum() / covalent_radii[atoms.numbers].sum()
    new.set_cell(atoms.cell[:] * scale, scale_atoms=True)
    return new


class Sets:
    """The made sets, as a store has embedded them."""

    def __init__(self, snapshot: Snapshot):
        self.snapshot = snapshot
        ids = [
            id_ for (id_,) in snapshot.rows("SELECT id FROM catalog.main.structures ORDER BY id")
        ]
        done = [
            set(snapshot.points(table).column("structure_id").tolist())
            for table in snapshot.tables
            if table.level == "structure"
        ]
        self.ids = [id_ for id_ in ids if all(id_ in one for one in done)]
        self.whole = self._of(self.ids)
        self.name = np.array([id_.partition(":")[0] for id_ in self.ids])

    def _of(self, ids: list[str]) -> StructureSet:
        return StructureSet(self.snapshot, ids, ids, [])

    def __getitem__(self, name: str) -> StructureSet:
        return self._of([id_ for id_ in self.ids if id_.startswith(f"{name}:")])

    @property
    def names(self) -> list[str]:
        first = [TRUE, "substituted", "known, moved", "known, doubled", *WAYS]
        return [*first, *sorted(set(self.name) - set(first))]


def table(frame: pd.DataFrame, title: str, digits: int = 3) -> None:
    print(f"| {title} | {' | '.join(map(str, frame.columns))} |")
    print(f"|{'---|' * (len(frame.columns) + 1)}")
    for name, row in frame.iterrows():
        cells = [f"{one:.{digits}f}" if isinstance(one, float) else str(one) for one in row]
        print(f"| {name} | {' | '.join(cells)} |")
    print(flush=True)


def classes(base: Known, sets: Sets) -> pd.DataFrame:
    """The answer of `screen` for all sets together; prints the share of each class."""
    limits = limits_of(base, OUTSIDE, SPARSE, WITHIN)
    answers = {name: screened(base, sets[name], limits) for name in sets.names}
    shares = {
        name: answer["class"].value_counts(normalize=True).reindex(CLASSES).fillna(0.0)
        for name, answer in answers.items()
    }
    table(pd.DataFrame(shares).T, "share of each set", 2)
    table(rates(base, limits).set_index("class").drop(columns="rule"), "limits", 4)
    return pd.concat([one.assign(set=name) for name, one in answers.items()], ignore_index=True)


def first_worth(answer: pd.DataFrame, frames: dict[str, np.ndarray], ids: np.ndarray) -> None:
    """Of the first N of each order, the share that is new and credible."""
    place = answer["class"].map(CLASSES.index)
    credible = answer["class"].isin(["frontier", "covered"])
    ours = answer.sort_values(
        "candidate", key=lambda _: place + np.where(credible, answer["p_sparse"], 1 - answer["p"])
    )
    worth = pd.Series(np.isin([id_.partition(":")[0] for id_ in ids], NEW), index=ids)
    orders = {"ours": worth[ours["candidate"]].to_numpy()}
    for name, values in frames.items():
        orders[f"{name}, lowest first"] = worth.to_numpy()[np.argsort(values, kind="stable")]
    rows = {}
    for name, order in orders.items():
        rows[name] = {f"first {n}": float(order[:n].mean()) for n in (100, 200, 400)}
        rows[name]["of all"] = float(order.mean())
    table(pd.DataFrame(rows).T, "share worth computing")


def ours(base: Known, measured: Measured) -> dict[str, np.ndarray]:
    """Our scores; of several models together the consensus."""
    if measured.atypicality.shape[1] == 1:
        return {
            "atypicality of the worst atom": measured.atypicality[:, 0],
            "distance to 5 nearest structures": measured.gap[:, 0],
        }
    limits = limits_of(base, OUTSIDE, SPARSE, WITHIN)
    return {
        "p": -limits.p(measured),
        "p_sparse": -limits.p_sparse(measured),
        "disagreement": measured.frame["disagreement"].to_numpy(),
        "shortest contact (no model)": -measured.frame["shortest"].to_numpy(),
    }


def aurocs(scores: dict[str, np.ndarray], sets: Sets) -> pd.DataFrame:
    """Of each set against the held-out crystals."""
    true = sets.name == TRUE
    rows = {}
    for score, values in scores.items():
        rows[score] = {
            name: float(
                roc_auc_score(
                    np.r_[np.zeros(true.sum()), np.ones((sets.name == name).sum())],
                    np.r_[values[true], values[sets.name == name]],
                )
            )
            for name in sets.names
            if name != TRUE and not name.startswith("known")
        }
    return pd.DataFrame(rows).T


def judged(base: Known, sets: Sets) -> dict[str, np.ndarray]:
    """Every score by one model; prints the AUROCs."""
    (side,) = base.references
    everything = base.everything
    points = sets.whole.vectors(side)
    rows = everything.vectors(side)
    lattices = np.digitize(everything.crystals["spacegroup"], [3, 16, 75, 143, 168, 195])
    anchors = rows[np.sort(random_rows(everything.ids, ANCHORS, seed=1))]
    spaces = {
        "embedding": (points, rows),
        "anchor space": tuple(unit_rows(one) @ unit_rows(anchors).T for one in (points, rows)),
    }
    found = ours(base, base.measure(sets.whole))
    for space, (some, others) in spaces.items():
        theirs = manifish.scores(some, others, lattices)
        found |= {f"ManiFish: {name}, {space}": values for name, values in theirs.items()}
    table(aurocs(found, sets), f"AUROC, {side}")
    flagged = manifish.hallucinated(*spaces["embedding"])
    shares = pd.Series(flagged).groupby(sets.name).mean().reindex(sets.names)
    table(shares.to_frame("share").T, f"ManiFish's structural hallucination, {side}", 2)
    return found


def compared_sets(base: Known, sets: Sets, side: ModelLayer) -> None:
    rows = {}
    for name in sets.names:
        answer = compared(
            base.snapshot, sets[name], base.everything, [side], None, 5, WITHIN, 50, 0
        )
        answer = answer.set_index("measure")
        rows[name] = answer["value"]
        rows["two halves of what is known"] = answer["halves"]
    table(pd.DataFrame(rows).T[list(MEASURES)], f"compare-sets, {side}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("--model", action="append", help="default: sevennet-0, chgnet-0.3.0")
    parser.add_argument("--control", action="append", default=[], help="controls in the store")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--perov", type=Path)
    parser.add_argument("--work", type=Path)
    asked = parser.parse_args()
    models = asked.model or ["sevennet-0", "chgnet-0.3.0"]
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(asked.store, read_only=True)
        other = Store.open((asked.work or Path(folder)) / "made.store")
        sources = dict(made(store, asked.count))
        if asked.perov:
            some = [one for one in records(asked.perov) if isinstance(one, Crystal)]
            sources |= {
                f"Perov-5:{row}": Atoms(one.numbers, one.positions, cell=one.cell, pbc=True)
                for row, one in enumerate(some[: asked.count])
            }
        layers = _layers(store, [*models, *asked.control])
        for name, layer in layers.items():
            other.ingest(sources, [name], layers=str(layer))
        with store.snapshot() as snapshot, other.snapshot() as made_snapshot:
            sets = Sets(made_snapshot)
            print({name: len(sets[name].ids) for name in sets.names}, "\n")
            trained = known(snapshot, trained_sides(snapshot, models), AMONG)
            answer = classes(trained, sets)
            consensus = aurocs(ours(trained, trained.measure(sets.whole)), sets)
            table(consensus, f"AUROC, {' and '.join(models)} together")
            for name in [*models, *asked.control]:
                (side,) = trained_sides(snapshot, [name])
                found = judged(known(snapshot, [side], AMONG), sets)
                if name == models[0]:
                    theirs = {
                        key: values
                        for key, values in found.items()
                        if "LOF" in key or "outlier" in key or "atypicality" in key
                    }
                    first_worth(answer, theirs, sets.whole.ids)
            (side,) = trained_sides(snapshot, models[:1])
            compared_sets(trained, sets, side)


def _layers(store: Store, names: list[str]) -> dict[str, int]:
    snapshot = store.snapshot()
    return {side.model: side.layer for side in trained_sides(snapshot, names)}


if __name__ == "__main__":
    main()
