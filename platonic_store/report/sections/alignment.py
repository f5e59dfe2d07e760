"""Alignment: how alike each two models see the same atoms, calibrated against chance."""

from functools import partial
from itertools import permutations

import pandas as pd

from platonic_store import progress
from platonic_store.geometry.alignment import mutual_knn, permutation_null, retrieval
from platonic_store.questions.together import together
from platonic_store.reader import Reader
from platonic_store.report.figures import heat, wide
from platonic_store.report.study import Beside, Figure, Section, Study, controls_among, label

TITLE = "Alignment"
ATOMS = 1_000
SHUFFLES = 3
MEASURES = {
    "recall@10": partial(retrieval, k=10),
    "mutual 10 nearest": partial(mutual_knn, k=10),
}


def section(store: Reader, study: Study) -> Section:
    """A matrix of every two models for each measure, with the null beside it."""
    frame = _aligned(store, study)
    atoms = int(frame["atoms"].max())
    blocks, findings, beside = [], [], []
    for measure, rows in frame.groupby("measure", sort=False):
        blocks.append(_figure(rows, str(measure), study))
        controls_in = controls_among(rows, "a", "b")
        trained, mixed = rows[controls_in == 0], rows[controls_in == 1]
        if len(trained):
            score, null = trained["score"], rows["null"].max()
            beside.append(Beside(str(measure), score.mean(), mixed["score"].max(), null))
    trained = frame[(frame["measure"] == "recall@10") & (controls_among(frame, "a", "b") == 0)]
    if len(trained):
        ordered = trained.sort_values("score")
        low, high = ordered.iloc[0], ordered.iloc[-1]
        findings.append(
            f"In the shared space, an atom seen by one trained model is among the ten nearest of "
            f"{atoms:,} seen by another in {ordered['score'].mean():.2f} of cases: least "
            f"for {label(low['a'])} asking {label(low['b'])} ({low['score']:.2f}), most for "
            f"{label(high['a'])} asking {label(high['b'])} ({high['score']:.2f}); shuffled, at "
            f"most {frame['null'].max():.3f}."
        )
    return Section(
        TITLE,
        f"The same {atoms:,} distinct atoms in {study.space}, as each two models see them.",
        blocks,
        frames={"alignment": frame},
        caveat="Models that share training data may agree because of it. Out of distribution, "
        "models agree where they collapse together; no score here tells the two apart.",
        findings=findings,
        beside=beside,
    )


def _aligned(store: Reader, study: Study) -> pd.DataFrame:
    """A row for each measure and ordered pair of sides: score, and the largest when shuffled."""
    sides = study.sides_in_space(least=2)
    with store.snapshot() as snapshot:
        keys, vectors = together(snapshot, sides, space=study.space, sample=ATOMS, seed=study.seed)
    seen = dict(zip(sides, vectors, strict=True))
    pairs = list(permutations(sides, 2))
    rows = []
    with progress.bar("alignment", len(pairs) * len(MEASURES), "pairs") as advance:
        for measure, score in MEASURES.items():
            for a, b in pairs:
                null = permutation_null(score, seen[a], seen[b], SHUFFLES, study.seed).max()
                found = score(seen[a], seen[b])
                rows.append((measure, str(a), str(b), found, null, len(keys)))
                advance(1)
    return pd.DataFrame(rows, columns=["measure", "a", "b", "score", "null", "atoms"])


def _figure(rows: pd.DataFrame, measure: str, study: Study) -> Figure:
    order = [str(side) for side in study.shared]
    matrix = wide(rows, "a", "b", "score", order).rename(index=label, columns=label)
    return Figure(
        heat(matrix, title=measure),
        _SEE[measure],
        f"Where the atoms are shuffled it is at most {rows['null'].max():.3f}. A pair with a "
        "control shows what needs no training: compare each row with those at the bottom.",
    )


_SEE = {
    "recall@10": "How often an atom, asked with the model of the row, is among the ten nearest "
    "atoms of the model of the column.",
    "mutual 10 nearest": "The share of an atom's ten nearest other atoms that both models have in "
    "common.",
}
