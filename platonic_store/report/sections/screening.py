"""What candidates would be held against, how often that is wrong, and where the store is thin."""

import pandas as pd

from platonic_store.plots.labels import label
from platonic_store.questions.screen import CAVEAT, screened
from platonic_store.questions.shared.duplicates import WITHIN
from platonic_store.questions.shared.screening.known import known
from platonic_store.questions.shared.screening.limits import (
    CLASSES,
    OUTSIDE,
    SPARSE,
    limits_of,
    rates,
)
from platonic_store.questions.shared.structure_sets import StructureSet
from platonic_store.report.study import Section, Study, Table
from platonic_store.storage.snapshot import Snapshot

TITLE = "Screening"
SHOWN = 15
_COLUMNS = [
    "candidate",
    "formula",
    "p",
    "p_sparse",
    "element",
    "site_index",
    "nearest_id",
    "disagreement",
]


def section(snapshot: Snapshot, study: Study) -> Section:
    """Held-out structures, screened as candidates by all trained models together."""
    sides = [side for side in study.sides if snapshot.models[side.model].kind == "trained"]
    base = known(snapshot, sides or study.sides, None)
    limits = limits_of(base, OUTSIDE, SPARSE, WITHIN)
    ids = base.held_out.frame["structure_id"].tolist()
    answer = screened(base, StructureSet(snapshot, ids, ids, []), limits)
    error_rates = rates(base, limits)
    shares = answer["class"].value_counts(normalize=True)
    told = ", ".join(f"{shares[name]:.0%} {name}" for name in CLASSES if name in shares)
    models = " and ".join(label(side) for side in base.references)
    return Section(
        TITLE,
        f"Of {len(ids):,} structures of held-out compositions, `screen` by {models} calls {told}.",
        [
            Table(
                error_rates,
                "The rules by which candidates are classed, in the order in which they are tried, "
                "and how often each is met by structures of compositions that were held out.",
            ),
            Table(
                answer[answer["class"] == "frontier"].head(SHOWN)[_COLUMNS],
                "The frontier of this store: held-out structures that are credible, in regions "
                "that are known most sparsely.",
            ),
        ],
        frames={"screening": answer, "screening_limits": error_rates},
        caveat=CAVEAT[0].upper() + CAVEAT[1:] + ".",
        findings=[_finding(error_rates)],
    )


def _finding(error_rates: pd.DataFrame) -> str:
    outside = error_rates.set_index("class").loc["outside"]
    return (
        f"A candidate is called outside where p is at most {outside['limit']:.2f}; of "
        f"{outside['structures']:,} structures of held-out compositions, each half judged by the "
        f"other, {outside['measured']:.1%} are."
    )
