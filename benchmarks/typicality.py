"""What typicality finds: `typicality.py STORE [--frames FRAMES.extxyz.gz] [--work FOLDER]`

STORE holds structures embedded by two models (default: sevennet-0, chgnet-0.3.0). One composition
in four is held out of the reference. Of the held-out structures some are distorted: rattled
(Gaussian, σ in Å along each axis), strained (random symmetric strain, largest principal value),
with their elements shuffled over the sites, or with atoms at random places in their cell (none
nearer than 1.2 Å where that can be had). Printed are, for each score, the AUROC of distorted
against held-out, by a structure's least typical atom; the share of held-out structures with
p ≤ 0.05, which should be 0.05; and, with FRAMES (extxyz with DFT forces), the Spearman correlation
of structures' scores with the models' true errors of force (mean over atoms, eV/Å) and with their
disagreement on forces. FOLDER keeps what takes long, for the next run. Printed is Markdown.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pandas as pd
from ase import Atoms
from scipy.stats import cauchy, spearmanr
from sklearn.metrics import roc_auc_score

from platonic_store import Store
from platonic_store.geometry import typicality as geometry
from platonic_store.geometry.anchors import random_rows
from platonic_store.questions.shared import bounded_references, embedded_sets, references
from platonic_store.questions.shared.embedded_sets import EmbeddedSet
from platonic_store.questions.shared.references import Reference, Scores
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer

PARTS = [f"hash(formula) % 4 = {part}" for part in range(4)]
HELD_OUT = PARTS[0]
RATTLED, STRAINED = (0.1, 0.2, 0.3, 0.5), (0.1, 0.2)
SCORES = ("atypicality", "distance", "density", "residual")


def crystals(store: Store, condition: str) -> dict[str, Atoms]:
    frame = store.sql(f"SELECT structure_id FROM structure WHERE {condition} ORDER BY structure_id")
    snapshot = store.snapshot()
    rows = snapshot.frame(
        "SELECT structure_id, numbers, positions, cell FROM crystals "
        "WHERE structure_id IN (SELECT unnest(?))",
        [frame["structure_id"].tolist()],
    )
    columns = (rows[name] for name in ("structure_id", "numbers", "positions", "cell"))
    return {
        id_: Atoms(numbers, positions=positions.reshape(-1, 3), cell=cell.reshape(3, 3), pbc=True)
        for id_, numbers, positions, cell in zip(*columns, strict=True)
    }


def distorted(atoms: Atoms, rng: np.random.Generator) -> dict[str, Atoms]:
    """One crystal in each of the ways."""
    found = {}
    for sigma in RATTLED:
        found[f"rattled {sigma}"] = moved = atoms.copy()
        moved.positions += rng.normal(scale=sigma, size=moved.positions.shape)
    for largest in STRAINED:
        strain = rng.normal(size=(3, 3))
        strain += strain.T
        strain *= largest / np.abs(np.linalg.eigvalsh(strain)).max()
        found[f"strained {largest}"] = strained = atoms.copy()
        strained.set_cell(strained.cell[:] @ (np.eye(3) + strain), scale_atoms=True)
    found["shuffled"] = shuffled = atoms.copy()
    shuffled.numbers = rng.permutation(shuffled.numbers)
    found["random"] = random = atoms.copy()
    for _ in range(200):
        random.set_scaled_positions(rng.random((len(random), 3)))
        near = random.get_all_distances(mic=True)[np.triu_indices(len(random), 1)]
        if not near.size or near.min() > 1.2:
            break
    return found


def distortions(store: Store, count: int, folder: Path, models: list[str]) -> Store:
    """A store of some held-out crystals in each of the ways; ids are "way:id"."""
    pool = crystals(store, HELD_OUT)
    ids = sorted(pool)
    chosen = [ids[i] for i in np.sort(random_rows(ids, count, seed=0))]
    made = {
        f"{way}:{id_}": atoms
        for i, id_ in enumerate(chosen)
        for way, atoms in distorted(pool[id_], np.random.default_rng(i)).items()
    }
    other = Store.open(folder / "distorted.store")
    other.ingest(made, models)
    return other


def reference_of(
    store: Store, model: str, held_out: str = HELD_OUT
) -> tuple[Reference, EmbeddedSet]:
    """A calibrated reference without the held-out compositions, and all that the store holds."""
    snapshot = store.snapshot()
    side = lookup.model_layer(snapshot, model)
    reference, judges = bounded_references.build_reference(
        snapshot, side, among=f"NOT ({held_out})"
    )
    these = embedded_sets.load_set(snapshot, side, reference.seed)
    return references.calibrated(reference, judges), these


def all_of(store: Store, reference: Reference) -> EmbeddedSet:
    snapshot = store.snapshot()
    return embedded_sets.load_set(
        snapshot, ModelLayer(reference.model, reference.layer), reference.seed
    )


def by_structure(reference: Reference, these: EmbeddedSet) -> pd.DataFrame:
    """Each score of structures, large for atypical, by the least typical atom; and p."""
    found = references.scores(reference, these)
    atoms = found.atoms.assign(density=-found.atoms["density"])
    frame = atoms.groupby("structure_id")[list(SCORES)].max()
    known = reference.known.atoms
    any_element = geometry.score(
        these.atoms._replace(elements=np.zeros_like(these.atoms.elements)),
        known._replace(elements=np.zeros_like(known.elements)),
    )
    frame["atypicality, any element"] = (
        pd.Series(any_element.atypicality).groupby(these.sites["structure_id"].to_numpy()).max()
    )
    frame["p"] = found.structures.set_index("structure_id")["p"]
    return frame


def combined(frames: list[pd.DataFrame], calibration: list[pd.DataFrame]) -> pd.DataFrame:
    """Consensus of models: their p-values in one, in several ways."""
    p = np.stack([frame["p"].to_numpy() for frame in frames])
    scale = np.stack([frame["p"].to_numpy() for frame in calibration])
    surprise, usual = (-np.log(values).mean(0) for values in (p, scale))
    return pd.DataFrame(
        {
            "conformal": geometry.conformal_p(surprise, usual),
            "twice the mean": np.minimum(2 * p.mean(0), 1),
            "harmonic mean": 1 / (1 / p).mean(0),
            "Cauchy": cauchy.sf(np.tan((0.5 - p) * np.pi).mean(0)),
        },
        index=frames[0].index,
    )


def table(rows: dict[str, pd.Series], title: str) -> None:
    frame = pd.DataFrame(rows).T
    print(f"| {title} | {' | '.join(map(str, frame.columns))} |")
    print(f"|{'---|' * (len(frame.columns) + 1)}")
    for name, row in frame.iterrows():
        print(f"| {name} | {' | '.join(f'{value:.3f}' for value in row)} |")
    print(flush=True)


def aurocs(typical: pd.Series, ways: pd.Series) -> pd.Series:
    """AUROC of each way of distorting against typical structures; ids are "way:id"."""
    kinds = ways.groupby(ways.index.str.partition(":").get_level_values(0), sort=False)
    return kinds.agg(
        lambda one: roc_auc_score(
            np.r_[np.zeros(len(typical)), np.ones(len(one))], np.r_[typical, one]
        )
    )


def forces(frames: list[Atoms], model: str, folder: Path) -> list[np.ndarray]:
    """What the model's own ASE calculator says, (n, 3) eV/Å for each frame."""
    kept = folder / f"forces-{model}.npz"
    if not kept.exists():
        calculator: Any
        if model.startswith("sevennet"):
            from sevenn.calculator import SevenNetCalculator

            calculator = SevenNetCalculator("7net-0", device="cpu")
        else:
            from chgnet.model.dynamics import CHGNetCalculator

            calculator = CHGNetCalculator(use_device="cpu")
        found = {}
        for i, frame in enumerate(frames):
            found[str(i)] = calculator.get_forces(frame.copy())
        np.savez(kept, **found)
    with np.load(kept) as arrays:
        return [arrays[str(i)] for i in range(len(frames))]


def disagreements(one: Scores, other: Scores) -> dict[str, pd.Series]:
    """Ways in which two models may be said to disagree on structures."""
    atoms = one.atoms.merge(other.atoms, on=["structure_id", "site_index"])
    unshared = pd.Series(
        [
            1 - len(set(a) & set(b)) / max(len(a), len(b))
            for a, b in zip(atoms["neighbours_x"], atoms["neighbours_y"], strict=True)
        ]
    ).groupby(atoms["structure_id"])
    whole = one.structures.merge(other.structures, on="structure_id").set_index("structure_id")
    alike = [
        1 - len(set(a) & set(b)) / len(a)
        for a, b in zip(whole["neighbours_x"], whole["neighbours_y"], strict=True)
    ]
    return {
        "disagreement: neighbours not shared, worst atom": unshared.max(),
        "neighbours not shared, mean atom": unshared.mean(),
        "neighbours not shared, of the whole structure": pd.Series(alike, index=whole.index),
        "difference of p": (whole["p_x"] - whole["p_y"]).abs(),
        "difference of ln p": (whole["p_x"] / whole["p_y"]).map(np.log).abs(),
    }


def against_forces(
    path: Path, folder: Path, judges: dict[str, Reference], models: list[str]
) -> None:
    frames = list(ase.io.iread(path, ":"))
    names = [str(frame.info.get("mptrj_snapshot_id", i)) for i, frame in enumerate(frames)]
    store = Store.open(folder / "frames.store")
    bare = [Atoms(f.numbers, positions=f.positions, cell=f.cell, pbc=f.pbc) for f in frames]
    store.ingest(dict(zip(names, bare, strict=True)), models)
    true = [frame.get_forces() for frame in frames]
    said = {model: forces(frames, model, folder) for model in models}
    judged = {m: by_structure(judges[m], all_of(store, judges[m])) for m in models}
    both = sorted(set.intersection(*(set(frame.index) for frame in judged.values())))
    pairs = {f"error of {m}": (said[m], true) for m in models}
    pairs["difference"] = (said[models[0]], said[models[1]])
    errors = {
        name: [np.linalg.norm(a - b, axis=1).mean() for a, b in zip(one, other, strict=True)]
        for name, (one, other) in pairs.items()
    }
    targets = pd.DataFrame(errors, index=names).loc[both]
    rows = {
        f"{score} by {m}": frame.loc[both, score]
        for m, frame in judged.items()
        for score in frame.columns.drop("p")
    }
    found = [references.scores(judges[m], all_of(store, judges[m])) for m in models[:2]]
    rows |= {name: values.loc[both] for name, values in disagreements(*found).items()}
    rows["atoms in the cell"] = pd.Series([len(f) for f in frames], index=names).loc[both]
    rows["mean force by DFT (no score)"] = pd.Series(
        [np.linalg.norm(f, axis=1).mean() for f in true], index=names
    ).loc[both]
    table(
        {
            name: pd.Series({t: spearmanr(v, targets[t])[0] for t in targets})
            for name, v in rows.items()
        },
        f"Spearman over {len(both)} frames",
    )


def against_distorted(
    store: Store, folder: Path, count: int, models: list[str]
) -> dict[str, Reference]:
    """Print the AUROCs and false positive rates; returns each model's reference."""
    ways = distortions(store, count, folder, models)
    held_out = store.sql(f"SELECT structure_id FROM structure WHERE {HELD_OUT}")[
        "structure_id"
    ].to_numpy()
    judges, found = {}, {}
    for model in models:
        reference, these = reference_of(store, model)
        judges[model] = reference
        members = reference.members
        calibration = members["structure_id"][members["part"] == "calibration"].to_numpy()
        found[model] = [
            by_structure(reference, one)
            for one in (
                embedded_sets.subset(these, held_out),
                all_of(ways, reference),
                embedded_sets.subset(these, calibration),
            )
        ]
    typical, twisted, usual = (list(frames) for frames in zip(*found.values(), strict=True))
    both = twisted[0].index.intersection(twisted[1].index)
    consensus = combined(typical, usual), combined([t.loc[both] for t in twisted], usual)
    rows = {
        f"{score}, {model}": aurocs(one[score], other[score])
        for model, one, other in zip(models, typical, twisted, strict=True)
        for score in one.columns.drop("p")
    }
    rows["consensus"] = aurocs(-consensus[0]["conformal"], -consensus[1]["conformal"])
    table(rows, f"AUROC, {count} distorted, {len(held_out)} held out")
    table(
        {
            name: rates(values)
            for name, values in {
                **{model: one["p"] for model, one in zip(models, typical, strict=True)},
                **{f"consensus, {name}": consensus[0][name] for name in consensus[0]},
                **{f"{model}, each part in turn": in_turn(store, model) for model in models},
            }.items()
        },
        "held-out compositions",
    )
    return judges


def ids_where(store: Store, condition: str) -> np.ndarray:
    found = store.sql(f"SELECT structure_id FROM structure WHERE {condition}")
    return found["structure_id"].to_numpy()


def rates(p: pd.Series) -> pd.Series:
    limits = {f"p ≤ {limit}": float((p <= limit).mean()) for limit in (0.01, 0.05, 0.2)}
    return pd.Series({**limits, "mean p": float(p.mean())})


def in_turn(store: Store, model: str) -> pd.Series:
    """p of all structures, each quarter of the compositions held out in its turn."""
    p: list[pd.Series] = []
    for part in PARTS:
        reference, these = reference_of(store, model, part)
        ids = store.sql(f"SELECT structure_id FROM structure WHERE {part}")[
            "structure_id"
        ].to_numpy()
        p.append(references.scores(reference, embedded_sets.subset(these, ids)).structures["p"])
    every: pd.Series = pd.concat(p)
    return every


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("--model", action="append", help="two; default: sevennet-0, chgnet-0.3.0")
    parser.add_argument("--distorted", type=int, default=300)
    parser.add_argument("--frames", type=Path)
    parser.add_argument("--work", type=Path)
    asked = parser.parse_args()
    models = asked.model or ["sevennet-0", "chgnet-0.3.0"]
    with tempfile.TemporaryDirectory() as folder:
        work = asked.work or Path(folder)
        judges = against_distorted(Store.open(asked.store), work, asked.distorted, models)
        if asked.frames:
            against_forces(asked.frames, work, judges, models)


if __name__ == "__main__":
    main()
