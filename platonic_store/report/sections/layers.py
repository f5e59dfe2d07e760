"""What decides how well two models understand each other: layer, recipe, or number of anchors."""

from itertools import product
from typing import NamedTuple, cast

import numpy as np
import pandas as pd

from platonic_store import progress
from platonic_store.errors import Call, InvalidQuery
from platonic_store.geometry.anchors import random_rows
from platonic_store.geometry.consensus import choose, consensus, join
from platonic_store.geometry.projection import Recipe, fit, project
from platonic_store.geometry.retrieval import retrieval
from platonic_store.jobs.space import ALIGNED, RECIPES
from platonic_store.plots.figures import heat
from platonic_store.plots.labels import is_control, label
from platonic_store.questions.shared.pairing import paired_embeddings
from platonic_store.report.study import Comparison, Figure, Section, Study
from platonic_store.storage.snapshot import ModelLayer, Snapshot

TITLE = "Layers, recipes, anchors"
ATOMS = 4_000
ASKED = 1_000
ANCHORS = (100, 512)


class Halves(NamedTuple):
    """(n, D) embeddings of each side: atoms to choose anchors from, and atoms to ask.

    No composition is in both; `compositions` are the anchors'.
    """

    anchors: dict[ModelLayer, np.ndarray]
    asked: dict[ModelLayer, np.ndarray]
    compositions: np.ndarray


def section(snapshot: Snapshot, study: Study) -> Section:
    """Recall@10 of the same atom by each layer and recipe, against the other trained models."""
    partners = [side for side in study.sides if not is_control(side)]
    if not partners or len(study.sides) < 2:
        raise InvalidQuery(
            "a trained model is compared with other models, and there is only "
            f"{', '.join(map(str, study.sides))}",
            Call("ingest", models=["NAME"]),
        )
    halves = _halves(snapshot, study)
    frame = _scores(halves, partners)
    means = frame.groupby(["side", "recipe", "anchors"]).agg({"recall": "mean"}).reset_index()
    trained = means[[not is_control(side) for side in means["side"]]]
    side, recipe, k, score = trained.sort_values("recall").to_numpy()[-1]
    same = trained[(trained["side"] == side) & (trained["anchors"] == k)]
    papers = same.set_index("recipe")["recall"]["cosine"]
    controls = means[[is_control(side) for side in means["side"]]]
    control = controls[(controls["recipe"] == recipe) & (controls["anchors"] == k)]["recall"].max()
    asked = len(next(iter(halves.asked.values())))
    return Section(
        TITLE,
        f"The best here is {side} by the recipe {recipe} with {k} anchors: the same atom is among "
        f"the ten nearest of {asked:,} in {score:.2f} of cases, as the mean over the other trained "
        f"models. The paper's recipe, cosine, finds {papers:.2f} with the same layer and anchors.",
        [
            Figure(
                heat(_matrix(frame), title="retrieval@10"),
                "Down the rows, what the layer decides; along them, the recipe and the number of "
                "anchors. Each cell is the mean over the other trained models, each at its own "
                "layer; by aligned, all others join the consensus of these.",
                f"Recall falls as there are more atoms to choose from: {asked:,} here, so chance "
                f"is {10 / asked:.3f}. A control that scores well shows what needs no training.",
            )
        ],
        frames={"layers": frame},
        caveat="Anchors are random atoms, and no composition of theirs is among those asked. The "
        "best cell is chosen on the atoms that it is reported on, so it is a little too good.",
        findings=[
            f"Asked by {label(side)} for an atom among {asked:,}, the other trained models have it "
            f"among their ten nearest in {score:.2f} of cases by the recipe {recipe}, and in "
            f"{papers:.2f} by the paper's cosine."
        ],
        comparisons=[Comparison("retrieval@10, best layer and recipe", score, control, 10 / asked)],
    )


def _matrix(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows sides, columns recipes and numbers of anchors, in the order of the frame."""
    cases = frame.assign(case=frame["recipe"] + " " + frame["anchors"].astype(str))
    matrix = cases.pivot_table("recall", "side", "case", aggfunc="mean", sort=False)
    return matrix.rename(index=label)


def _halves(snapshot: Snapshot, study: Study) -> Halves:
    """Every stored layer of the trained models, and the controls' own one."""
    sides = [
        ModelLayer(side.model, table.layer)
        for side in study.sides
        for table in sorted(snapshot.tables, key=lambda table: table.layer)
        if (table.model, table.space, table.level) == (side.model, None, "atom")
        and (table.layer == side.layer or not is_control(side))
    ]
    keys, vectors, _ = paired_embeddings(snapshot, sides, sample=ATOMS, seed=study.seed)
    formulas = dict(snapshot.rows("SELECT structure_id, formula FROM structure"))
    compositions = keys["structure_id"].map(formulas).to_numpy(dtype=str)
    unique = np.unique(compositions)
    first = np.isin(compositions, unique[random_rows(unique, len(unique) // 2, study.seed)])
    names = (keys["structure_id"] + ":" + keys["site_index"].astype(str)).to_numpy(dtype=str)
    order = random_rows(names, len(names), study.seed)
    anchors = order[first[order]][: max(ANCHORS)]
    asked = order[~first[order]][:ASKED]
    return Halves(
        {side: rows[anchors] for side, rows in zip(sides, vectors, strict=True)},
        {side: rows[asked] for side, rows in zip(sides, vectors, strict=True)},
        compositions[anchors],
    )


def _scores(halves: Halves, partners: list[ModelLayer]) -> pd.DataFrame:
    """A row a side, partner (another model at its own layer), recipe and number of anchors."""
    pairs = [(a, b) for a in halves.asked for b in partners if a.model != b.model]
    pool = len(halves.anchors[pairs[0][0]])
    recipes = (*RECIPES, ALIGNED) if len(partners) > 1 else RECIPES
    cases = list(product(recipes, [k for k in ANCHORS if k <= pool] or [pool]))
    rows = []
    with progress.bar("layers and recipes", len(cases) * len(pairs), "pairs") as advance:
        for recipe, k in cases:
            coordinates = _coordinates(halves, partners, recipe, k)
            for a, b in pairs:
                recall = retrieval(coordinates[a], coordinates[b], 10)
                rows.append((str(a), str(b), recipe, k, recall))
                advance(1)
    return pd.DataFrame(rows, columns=["side", "partner", "recipe", "anchors", "recall"])


def _coordinates(
    halves: Halves, partners: list[ModelLayer], recipe: str, k: int
) -> dict[ModelLayer, np.ndarray]:
    """Those asked, by each side; to the consensus of the partners all other sides are joined."""
    if recipe != ALIGNED:
        return {
            side: project(fit(cast(Recipe, recipe), halves.anchors[side][:k]), asked)
            for side, asked in halves.asked.items()
        }
    models = [halves.anchors[side][:k] for side in partners]
    recalls = choose(models, halves.compositions[:k]).recalls
    penalty = float(max(recalls.keys() - {"whitened"}, key=lambda name: recalls[name]))
    targets = consensus(models, penalty)
    return {
        side: project(join(halves.anchors[side][:k], targets, penalty), asked)
        for side, asked in halves.asked.items()
    }
