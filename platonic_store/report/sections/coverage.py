"""Which structures have environments that are far from all of a reference, or lacking from it."""

import numpy as np
import pandas as pd

from platonic_store.errors import (
    Call,
    CheckpointMismatch,
    InvalidQuery,
    LayerNotFound,
    ModelNotFound,
)
from platonic_store.plots.figures import colours_of, legend_of, steps
from platonic_store.plots.labels import is_control, label
from platonic_store.questions.coverage import CAVEAT, coverage
from platonic_store.report.study import Figure, Section, Study, Table
from platonic_store.storage.snapshot import Snapshot

TITLE = "Coverage"
SHOWN = 15
FAR = 0.05
NEAREST = 1e-6  # of cosine distances, drawn by their logarithms
_COLUMNS = [
    *("structure_id", "formula", "p", "distance", "element", "site_index", "coordination"),
    *("nearest_formula", "nearest_id", "lacks"),
]


def section(snapshot: Snapshot, study: Study) -> Section:
    """Every structure against the reference, by each of the models that it has too."""
    if study.reference is None:
        raise InvalidQuery(
            "no reference store was named", Call("report", out="report.html", reference="URI")
        )
    frame = _rows(snapshot, study, study.reference)
    sides = [str(side) for side in study.sides if str(side) in set(frame["side"])]
    first = frame[frame["side"] == sides[0]].sort_values(["p", "distance"], ascending=[True, False])
    told = "; ".join(f"{share:.1%} to {label(side)}" for side, share in _far(frame, sides).items())
    name = first["reference"].iloc[0]
    blocks: list[Figure | Table] = [
        Figure(
            steps(
                {
                    label(side): np.log10(
                        frame["distance"][frame["side"] == side].clip(lower=NEAREST)
                    )
                    for side in sides
                },
                colours=colours_of(sides),
                title="log₁₀ of 1 − cosine",
            ),
            "How far each structure's strangest atom is from the nearest of the reference.",
            "Each model measures in its own embeddings: compare shares of p, not distances.",
            legend=legend_of(sides),
        ),
        Table(
            first[_COLUMNS].head(SHOWN),
            f"The least covered by {name}, to {label(sides[0])}: `p` is the share of new "
            "compositions of the reference's kind at least as far; the atom is the strangest.",
        ),
    ]
    lacking = _lacking(first)
    if len(lacking):
        blocks.append(
            Table(
                lacking.head(SHOWN),
                "What the reference lacks: elements, and numbers of neighbours of an element.",
            )
        )
    return Section(
        TITLE,
        f"Of {len(first):,} structures these shares are far from {name} at p ≤ {FAR}: {told}.",
        blocks,
        frames={"coverage": frame},
        caveat=CAVEAT[0].upper() + CAVEAT[1:] + ".",
        findings=[_finding(first, name, sides[0])],
    )


def _rows(snapshot: Snapshot, study: Study, reference: str) -> pd.DataFrame:
    """The answer of `coverage` by each model that the reference has, with formulas."""
    frames, refused = [], None
    for side in study.sides:
        try:
            rows = coverage(snapshot, reference=reference, model=str(side))
        except (ModelNotFound, LayerNotFound, CheckpointMismatch) as error:
            refused = refused or error
            continue
        frames.append(rows.assign(side=str(side)))
    if not frames and refused is not None:
        raise refused
    frame = pd.concat(frames, ignore_index=True)
    formulas = dict(snapshot.rows("SELECT structure_id, formula FROM structure"))
    return frame.assign(formula=frame["structure_id"].map(formulas))


def _far(frame: pd.DataFrame, sides: list[str]) -> dict[str, float]:
    is_far = (frame["p"] <= FAR).groupby(frame["side"]).mean()
    return {side: float(is_far[side]) for side in sides}


def _lacking(rows: pd.DataFrame) -> pd.DataFrame:
    """What is lacking, most structures first."""
    counts = rows["lacks"].explode().dropna().value_counts()
    found = counts.rename_axis("lacks").reset_index(name="structures")
    return found.sort_values(["structures", "lacks"], ascending=[False, True], ignore_index=True)


def _finding(rows: pd.DataFrame, name: str, side: str) -> str:
    known = int((rows["distance"] <= NEAREST).sum())
    lacking = int(rows["lacks"].map(len).gt(0).sum())
    who = f"the control {label(side)}" if is_control(side) else label(side)
    return (
        f"To {who} {(rows['p'] <= FAR).mean():.1%} of the structures hold an atom that is far from "
        f"all of {name} (p ≤ {FAR}), {known:,} hold none that is not in it, and {lacking:,} hold "
        "an element or a coordination that it lacks."
    )
