"""What coverage finds: `coverage.py FRAMES.extxyz.gz CRYSTALS.csv.gz [--work FOLDER]`

FRAMES are training frames (MPtrj). Half of their compositions, by hash, are a reference; the others
are held out and ask. Asked too are: some of the held-out frames rattled (Gaussian, σ in Å along
each axis), strained, with elements shuffled, or with atoms at random places; and some of CRYSTALS.
Printed are, by model: the share of held-out frames and of their atoms with p ≤ 0.05, which should
be 0.05 at most; the AUROC of the others against held-out frames, by p; the same by typicality; what
a reference without an element, or without a coordination of it, says of those that have it; and
what is lost when the reference is thinned ("members" are its own frames, which should never be
far). The controls know the composition alone, or have random weights. FOLDER keeps what takes long,
for the next run. Printed is Markdown.
"""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from benchmarks.typicality import crystals, distorted
from platonic_store import Store
from platonic_store.geometry.anchors import random_rows

TRAINED = ["sevennet-0", "chgnet-0.3.0"]
CONTROLS = ["control:composition", "control:random:sevennet-0"]
HALF = "hash(formula) % 2 = 0"
SHARES = (0.3, 0.1, 0.03)
REMOVED = ("Li", "F", "Ti")
LIMIT = 0.05


def chosen(store: Store, condition: str, count: int | None = None) -> list[str]:
    frame = store.sql(f"SELECT structure_id FROM structure WHERE {condition} ORDER BY structure_id")
    ids = frame["structure_id"].tolist()
    return ids if count is None else [ids[i] for i in random_rows(ids, min(count, len(ids)), 0)]


def without(store: Store, folder: Path, condition: str) -> Store:
    """A copy of a store without the structures of a condition."""
    shutil.rmtree(folder, ignore_errors=True)
    store.copy(folder)
    other = Store.open(folder)
    if gone := chosen(other, condition):
        other.delete(gone)
    return other


def asked(frames: Store, path: Path, work: Path, models: list[str], count: int) -> Store:
    """A store of all that asks but the held-out frames; ids are "way:id"."""
    made = {}
    pool = crystals(frames, f"NOT ({HALF})")
    for i, id_ in enumerate(chosen(frames, f"NOT ({HALF})", count)):
        for way, atoms in distorted(pool[id_], np.random.default_rng(i)).items():
            made[f"{way}:{id_}"] = atoms
    known = Store.open(work / "crystals.store")
    known.ingest(path)
    some = set(chosen(known, "true", 2 * count))
    made |= {
        f"crystals:{id_}": atoms for id_, atoms in crystals(known, "true").items() if id_ in some
    }
    store = Store.open(work / "asked.store")
    store.ingest(made, models)
    return store


def table(rows: dict[str, dict[str, float]], title: str) -> None:
    frame = pd.DataFrame(rows).T
    print(f"| {title} | {' | '.join(map(str, frame.columns))} |")
    print(f"|{'---|' * (len(frame.columns) + 1)}")
    for name, row in frame.iterrows():
        values = ("–" if value != value else f"{value:.3f}" for value in row)
        print(f"| {name} | {' | '.join(values)} |")
    print(flush=True)


def aurocs(usual: pd.DataFrame, other: pd.DataFrame) -> dict[str, float]:
    """By p, of each way against held-out frames."""
    kinds = other["structure_id"].str.partition(":")[0]
    return {
        str(way): roc_auc_score(
            np.r_[np.zeros(len(usual)), np.ones(len(one))], -np.r_[usual["p"], one["p"]]
        )
        for way, one in other.groupby(kinds, sort=False)
    }


def embedded(store: Store, ids: list[str], model: str) -> list[str]:
    """Those of some structures that a model has embedded."""
    known = set(store.embeddings(model, level="structure")["structure_id"].to_pylist())
    return [id_ for id_ in ids if id_ in known]


def judged(frames: Store, half: Store, other: Store, questions: Store, held: list[str]) -> None:
    """How often held-out frames are called far, and whether the others are, by each model."""
    rows: dict[str, dict[str, float]] = {}
    for model in (*TRAINED, *CONTROLS):
        ids, turned = embedded(frames, held, model), embedded(frames, chosen(frames, HALF), model)
        given: dict[str, Any] = {"reference": str(half.path), "model": model}
        usual = frames.coverage(ids, **given)
        atoms = frames.coverage(ids, level="atom", **given)
        turn = frames.coverage(turned, reference=str(other.path), model=model)
        rates = {
            "frames": (usual["p"] <= LIMIT).mean(),
            "in turn": (turn["p"] <= LIMIT).mean(),
            "atoms": (atoms["p"] <= LIMIT).mean(),
        }
        rows[f"coverage, {model}"] = rates | aurocs(usual, questions.coverage(**given))
        if model in TRAINED:
            typical = frames.typicality(ids, **given)
            rows[f"typicality, {model}"] = {"frames": (typical["p"] <= LIMIT).mean()} | aurocs(
                typical, questions.typicality(**given)
            )
    table(rows, f"{len(held)} held-out frames: p ≤ {LIMIT}, then AUROC of")


def lacking(frames: Store, half: Store, work: Path, held: list[str], models: list[str]) -> None:
    """References without an element, or without a coordination: who is told so."""
    rows: dict[str, dict[str, float]] = {}
    elements = frames.sql("SELECT structure_id, elements FROM structure").set_index("structure_id")
    for symbol in REMOVED:
        poor = without(half, work / "poor.store", f"list_contains(elements, '{symbol}')")
        for model in models:
            found = frames.coverage(
                embedded(frames, held, model), reference=str(poor.path), model=model
            )
            has = elements["elements"].loc[found["structure_id"]]
            is_one = np.array([symbol in one for one in has])
            named = np.array([symbol in one for one in found["lacks"]])
            rows[f"no {symbol}, {model}"] = {
                "frames with it": is_one.sum(),
                "told": named[is_one].mean(),
                "told without cause": named[~is_one].mean(),
                "p ≤ 0.05 with it": (found["p"] <= LIMIT)[is_one].mean(),
                "p ≤ 0.05 without": (found["p"] <= LIMIT)[~is_one].mean(),
            }
    table(rows, "reference without an element")
    coordinations(frames, half, work, held, models)


def coordinations(
    frames: Store, half: Store, work: Path, held: list[str], models: list[str]
) -> None:
    rows: dict[str, dict[str, float]] = {}
    for symbol in REMOVED:
        model = models[0]
        here = half.coverage(reference=str(half.path), model=model, level="atom")
        mine = here[here["element"] == symbol]
        number = int(mine["coordination"].mode()[0])
        having = mine[mine["coordination"] == number]["structure_id"].unique()
        names = ", ".join(f"'{id_}'" for id_ in having)
        poor = without(half, work / "poor.store", f"structure_id IN ({names})")
        for model in models:
            found = frames.coverage(
                embedded(frames, held, model), reference=str(poor.path), model=model, level="atom"
            )
            found = found[found["element"] == symbol]
            is_one = found["coordination"] == number
            told = found["lacks"].map(len) > 0
            rows[f"no {symbol} with {number}, {model}"] = {
                "atoms so": is_one.sum(),
                "told": told[is_one].mean(),
                "others told (rare ones)": told[~is_one].mean(),
                "p ≤ 0.05 so": (found["p"] <= LIMIT)[is_one].mean(),
                "p ≤ 0.05 others": (found["p"] <= LIMIT)[~is_one].mean(),
            }
    table(rows, "reference without an element's commonest coordination")


def thinned(
    frames: Store, half: Store, questions: Store, work: Path, held: list[str], models: list[str]
) -> None:
    """What is lost by a cover."""
    rows: dict[str, dict[str, float]] = {}
    for model in models:
        print(f"thinning for {model}", file=sys.stderr, flush=True)
        ids = embedded(frames, held, model)
        whole = frames.coverage(ids, reference=str(half.path), model=model)
        for share in (1.0, *SHARES):
            path, lost = half.path, {}
            began = time.monotonic()
            if share < 1:
                path = work / f"thin-{share}.store"
                shutil.rmtree(path, ignore_errors=True)
                (done,) = half.thin(path, [model], keep=share)
                lost = {"kept": done.share, "radius": done.radius}
                lost |= {"largest": done.largest, "99 %": done.p99}
            seconds = time.monotonic() - began
            thin = frames.coverage(ids, reference=str(path), model=model)
            change = (thin["p"] - whole["p"]).abs().mean()
            members = half.coverage(reference=str(path), model=model)["p"]
            far = aurocs(thin, questions.coverage(reference=str(path), model=model))
            rows[f"{model}, {share:.0%}"] = {
                **({"kept": 1.0, "radius": 0.0, "largest": 0.0, "99 %": 0.0} | lost),
                "change of p": change,
                "p ≤ 0.05": (thin["p"] <= LIMIT).mean(),
                "members": (members <= LIMIT).mean(),
                **{way: far[way] for way in ("rattled 0.3", "random", "shuffled")},
                "seconds": seconds,
            }
    table(rows, "thinned to")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frames", type=Path)
    parser.add_argument("crystals", type=Path)
    parser.add_argument("--count", type=int, default=150, help="of frames that are distorted")
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    models = [*TRAINED, *CONTROLS]
    with tempfile.TemporaryDirectory() as folder:
        work = given.work or Path(folder)
        work.mkdir(exist_ok=True)
        frames = Store.open(work / "frames.store")
        frames.ingest(given.frames, models)
        questions = asked(frames, given.crystals, work, models, given.count)
        half = without(frames, work / "half.store", f"NOT ({HALF})")
        other = without(frames, work / "other.store", HALF)
        held = chosen(frames, f"NOT ({HALF})")
        judged(frames, half, other, questions, held)
        lacking(frames, half, work, held, TRAINED)
        thinned(frames, half, questions, work, held, TRAINED)


if __name__ == "__main__":
    main()
