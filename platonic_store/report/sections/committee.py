"""Where the models' forces differ, beside the size of the forces and what labels say."""

import numpy as np
import pandas as pd

from platonic_store.geometry.committee import FLOOR
from platonic_store.plots.figures import steps
from platonic_store.plots.labels import label
from platonic_store.questions.committee import CAVEAT, judged
from platonic_store.questions.shared import forces
from platonic_store.report.study import Figure, Section, Study, Table
from platonic_store.storage.snapshot import Snapshot

TITLE = "Committee"
SHOWN = 15


def section(snapshot: Snapshot, study: Study) -> Section:
    """The committee of the store's models with forces, one a lineage, and its extremes."""
    chosen = forces.members(snapshot, None)
    frame = judged(snapshot)
    frame["formula"] = frame["structure_id"].map(
        dict(snapshot.rows("SELECT structure_id, formula FROM structure"))
    )
    order = frame.sort_values(["spread", "structure_id"], ascending=[False, True])
    columns = [
        *("structure_id", "formula", "spread", "force", "p", "error_bound", "error"),
        *("site_index", "site_spread", "apart", "energy_spread"),
    ]
    shown = [name for name in columns if frame[name].notna().any()]
    return Section(
        TITLE,
        _lead(frame, chosen),
        [
            Figure(
                steps(
                    {"spread": _logs(frame["spread"]), "|F|": _logs(frame["force"])},
                    colours=["#c44e52", "#4c72b0"],
                    title="log₁₀ of eV/Å",
                ),
                "How far the models' forces are apart, and how large the forces are.",
                "A spread follows the size of the forces: at fixed size it says less.",
            ),
            Table(
                order[shown].head(SHOWN),
                "The structures on whose forces the models differ most. `p` is the share of the "
                "store with at least this spread; `error_bound` is conformal, from the labels of "
                "other compositions.",
            ),
            Table(_lineages(snapshot, chosen), "Who is on the committee, and what they learnt."),
        ],
        frames={"committee": frame.assign(models=", ".join(chosen))},
        caveat=CAVEAT[0].upper() + CAVEAT[1:] + ".",
        findings=[_finding(frame, chosen)],
    )


def _logs(sizes: pd.Series) -> pd.Series:
    return pd.Series(np.log10(sizes.clip(lower=FLOOR)))


def _lineages(snapshot: Snapshot, chosen: list[str]) -> pd.DataFrame:
    return snapshot.frame(
        "SELECT name AS model, family, array_to_string((card->'training_sets')::VARCHAR[], ', ') "
        "AS training_sets, list_contains(?, name) AS is_member FROM model "
        "WHERE kind = 'trained' "
        "AND name IN (SELECT model FROM atom_predictions WHERE site_index = 0) ORDER BY name",
        [chosen],
    )


def _lead(frame: pd.DataFrame, chosen: list[str]) -> str:
    names = ", ".join(label(model) for model in chosen)
    spread, force = frame["spread"].median(), frame["force"].median()
    text = (
        f"The forces of {names} on {len(frame):,} structures are {spread:.3g} eV/Å apart (median; "
        f"the forces themselves {force:.3g} eV/Å)."
    )
    there = frame["error"].notna()
    if there.sum() < 2:
        return f"{text} No structure brings labels of forces: the spread is not calibrated."
    rho = frame.loc[there, ["spread", "force", "error"]].corr(method="spearman")["error"]
    return (
        f"{text} On the {there.sum():,} with labels the spread has a rank correlation of "
        f"{rho['spread']:.2f} with the error of their mean, the size of the force "
        f"{rho['force']:.2f}."
    )


def _finding(frame: pd.DataFrame, chosen: list[str]) -> str:
    worst = frame.sort_values(["spread", "structure_id"], ascending=[False, True]).iloc[0]
    return (
        f"{len(chosen)} models differ most on the forces of {worst['structure_id']} "
        f"({worst['formula']}): by {worst['spread']:.2g} eV/Å, where forces are "
        f"{worst['force']:.2g} eV/Å."
    )
