"""What transport finds: `transport.py STORE [--atoms N] [--structures N]`, printed as Markdown.

1. For every pair of models and controls, by recipe: the share of mass that optimal transport leaves
   on its own atom (below the diagonal) and on its own element (above). 512 random anchors that are
   not moved, default layers, the same atoms for all.
2. Sinkhorn and sliced beside exact: cost, the error that each admits, time.
3. The barycentric map, fitted on two thirds of the compositions (element by element, without being
   told which atom is which): recall@10 of the same atom among those of the last third.
4. Each structure's nearest of another composition, by transport and by the mean of its atoms: how
   often it has the same prototype (space group and stoichiometry), how far its formation energy is.
"""

import argparse
import time
from itertools import combinations

import numpy as np
import pandas as pd
from pymatgen.core.composition import Composition

from platonic_store import Store
from platonic_store.geometry.anchors import random_rows
from platonic_store.geometry.neighbours import nearest_to_one
from platonic_store.geometry.projection import Recipe, fit, project
from platonic_store.geometry.retrieval import retrieval
from platonic_store.geometry.sets import nearest_sets
from platonic_store.geometry.transport import barycentric_map, carry, share, transport
from platonic_store.questions.shared.atom_sets import atom_sets
from platonic_store.questions.shared.pairing import paired_embeddings
from platonic_store.storage import lookup
from platonic_store.storage.layout import Points

K = 512
RECIPES: tuple[Recipe, ...] = ("cosine", "whitened")
Coordinates = dict[str, np.ndarray]


def sample(store: Store, known: pd.DataFrame, n: int) -> tuple[pd.DataFrame, Coordinates]:
    """The same n atoms by every model's default layer, with their structures' formulas."""
    snapshot = store.snapshot()
    sides = [lookup.model_layer(snapshot, model) for model in list(snapshot.models)]
    found = paired_embeddings(snapshot, sides, sample=n)
    keys = found.keys.assign(formula=known.loc[found.keys["structure_id"], "formula"].to_numpy())
    return keys, {str(side): rows for side, rows in zip(sides, found.vectors, strict=True)}


def projected(embeddings: Coordinates, recipe: Recipe, anchors: np.ndarray) -> Coordinates:
    """Coordinates of all atoms but the anchors."""
    rest = np.setdiff1d(np.arange(len(next(iter(embeddings.values())))), anchors)
    return {
        name: project(fit(recipe, rows[anchors]), rows[rest]) for name, rows in embeddings.items()
    }


def table(header: list[str], rows: list[list[str]]) -> None:
    print(f"\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def shares(z: Coordinates, elements: np.ndarray, recipe: str) -> None:
    names = list(z)
    cells = {name: dict.fromkeys(names, "") for name in names}
    atoms = np.arange(len(elements))
    for one, other in combinations(names, 2):
        plan = transport(z[one], z[other]).plan
        own = share(plan, atoms, atoms)
        element = share(plan, elements, elements)
        cells[other][one] = f"{own.share:.2f}"
        cells[one][other] = f"{element.share:.2f}"
    print(
        f"\n{recipe}, {len(atoms):,} atoms; own atom: chance {own.chance:.4f}, null "
        f"{own.null:.4f}; own element: chance {element.chance:.3f}, null {element.null:.3f}"
    )
    table(["atom \\ element", *names], [[name, *cells[name].values()] for name in names])


def methods(x: np.ndarray, y: np.ndarray) -> None:
    rows = []
    for n in (500, 1000, 2000, 4000):
        for method in ("exact", "sinkhorn", "sliced"):
            start = time.perf_counter()
            found = transport(x[:n], y[:n], method=method)
            took = time.perf_counter() - start
            own = share(found.plan, np.arange(n), np.arange(n)).share
            numbers = f"{found.cost:.4f}", f"{found.error:.4f}", f"{own:.3f}", f"{took:.2f}"
            rows.append([f"{n:,}", method, *numbers])
    table(["atoms", "method", "cost", "error", "own atom", "s"], rows)


def carried(z: Coordinates, keys: pd.DataFrame) -> None:
    formulas = keys["formula"].unique()
    held = set(formulas[random_rows(formulas, len(formulas) // 3, seed=0)])
    is_held = keys["formula"].isin(held).to_numpy()
    elements = keys["atomic_number"].to_numpy()[~is_held]
    rows = []
    for one, other in combinations(z, 2):
        cells = []
        for a, b in ((one, other), (other, one)):
            fitted = barycentric_map(z[a][~is_held], z[b][~is_held], elements)
            asked, answers = z[a][is_held], z[b][is_held]
            after = retrieval(carry(fitted, asked), answers, 10)
            cells.append(f"{retrieval(asked, answers, 10):.3f} → {after:.3f}")
        rows.append([one, other, *cells])
    print(f"\nfitted on {(~is_held).sum():,} atoms, {is_held.sum():,} candidates")
    table(["a", "b", "a asks b", "b asks a"], rows)


def described(store: Store) -> pd.DataFrame:
    """Formula, prototype and formation energy of every structure, by id."""
    known = store.sql(
        "SELECT structure_id, formula, spacegroup, formation_energy_per_atom FROM structure"
    )
    kind = known["formula"].map(lambda f: Composition(f).anonymized_formula)
    known["prototype"] = kind + ":" + known["spacegroup"].astype(str)
    return known.set_index("structure_id")


def structures(store: Store, known: pd.DataFrame, n: int) -> None:
    rows = []
    snapshot = store.snapshot()
    for model in list(snapshot.models):
        side = lookup.model_layer(snapshot, model)
        atoms = snapshot.points(lookup.vector_table(snapshot, side, "atom"))
        pooled = snapshot.points(lookup.vector_table(snapshot, side, "structure"))
        rows.append([str(side), *nearest_alike(atoms, pooled, known, n)])
    header = [
        f"{what}, {how}" for what in ("prototype", "eV/atom") for how in ("transport", "mean")
    ]
    table(["model", *header, "transport, ms", "mean, ms"], rows)


def nearest_alike(atoms: Points, pooled: Points, known: pd.DataFrame, n: int) -> list[str]:
    """Share of nearest structures of one prototype, and mean difference of formation energy."""
    sets = atom_sets(atoms)
    by_set = known.loc[atoms.keys["structure_id"].take(sets.label).to_pylist()]
    by_mean = known.loc[pooled.keys["structure_id"].to_pylist()]
    place = pd.Series(np.arange(len(by_mean)), by_mean.index)
    chosen = random_rows(by_set.index.to_numpy(dtype=object), min(n, len(by_set)), seed=0)
    same, apart, took = np.zeros(2), np.zeros(2), np.zeros(2)
    for i in chosen:
        asked = by_set.iloc[i]
        part = slice(sets.starts[i], sets.starts[i + 1])
        for way, others in enumerate((by_set, by_mean)):
            mask = (others["formula"] != asked["formula"]).to_numpy()
            start = time.perf_counter()
            if way == 0:
                x, mass = atoms.vectors[sets.rows[part]], sets.mass[part]
                found, _ = nearest_sets(x, mass, atoms.vectors, atoms.lengths, sets, 1, mask)
            else:
                vector = pooled.vectors[place[asked.name]]
                found, _ = nearest_to_one(vector, pooled.vectors, pooled.lengths, 1, mask)
            took[way] += time.perf_counter() - start
            other = others.iloc[found[0]]
            same[way] += other["prototype"] == asked["prototype"]
            energy = "formation_energy_per_atom"
            apart[way] += abs(other[energy] - asked[energy])
    numbers = [f"{x:.3f}" for x in (*(same / len(chosen)), *(apart / len(chosen)))]
    return [*numbers, *(f"{1000 * x:.0f}" for x in took / len(chosen))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("store")
    parser.add_argument("--atoms", type=int, default=2000)
    parser.add_argument("--structures", type=int, default=500)
    options = parser.parse_args()
    store = Store.open(options.store)
    known = described(store)
    keys, embeddings = sample(store, known, 4 * options.atoms + K)
    anchors = random_rows(np.arange(len(keys)), K, seed=0)
    keys = keys.drop(index=anchors.tolist()).reset_index(drop=True)
    elements = keys["atomic_number"].to_numpy()
    few = random_rows(np.arange(len(keys)), options.atoms, seed=1)
    for recipe in RECIPES:
        z = projected(embeddings, recipe, anchors)
        shares({name: rows[few] for name, rows in z.items()}, elements[few], recipe)
    one, other, *_ = z.values()
    methods(one, other)
    carried(z, keys)
    structures(store, known, options.structures)


if __name__ == "__main__":
    main()
