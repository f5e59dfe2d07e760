"""Which structures are one crystal to the models, and whether the models name the same pairs."""

import pandas as pd

from platonic_store.plots.labels import is_control, label
from platonic_store.questions.near_duplicates import CAVEAT, near_duplicates
from platonic_store.questions.shared.duplicates import WITHIN
from platonic_store.report.study import Section, Study, Table
from platonic_store.storage.snapshot import Snapshot

TITLE = "Near duplicates"
SHOWN = 15
_PAIR = ["structure_id", "other"]
_COLUMNS = [
    *("structure_id", "other", "formula", "distance", "models"),
    *("nsites", "nsites_other", "spacegroup", "spacegroup_other", "volume_ratio"),
]


def section(snapshot: Snapshot, study: Study) -> Section:
    """Pairs within the default distance by every side, and by how many trained models each is."""
    frame = pd.concat(
        [near_duplicates(snapshot, model=str(side)).assign(side=str(side)) for side in study.sides],
        ignore_index=True,
    )
    sides = [str(side) for side in study.sides]
    trained = [side for side in sides if not is_control(side)] or sides
    pairs = _by_all(frame, trained)
    summary = _summary(frame, sides)
    first = summary.iloc[0]
    return Section(
        TITLE,
        f"Within {WITHIN:g} of the mean distance between atoms of one element, {label(trained[0])} "
        f"holds {first['pairs']:,} pairs of one formula for the same crystal, of "
        f"{first['structures']:,} structures.",
        [
            Table(
                summary,
                "Pairs by each model. `other_spacegroup` is the share whose two space groups "
                "differ: polytypes and distortions, for the most part, rather than copies.",
            ),
            Table(
                pairs[_COLUMNS].head(SHOWN),
                "The pairs that most models name, then the nearest; `distance` is the mean over "
                "those models.",
            ),
        ],
        frames={"near_duplicates": frame, "near_duplicate_pairs": pairs},
        caveat=CAVEAT,
        findings=[_finding(pairs, trained)],
    )


def _summary(frame: pd.DataFrame, sides: list[str]) -> pd.DataFrame:
    rows = []
    for side in sides:
        own = frame[frame["side"] == side]
        rows.append(
            {
                "model": label(side),
                "pairs": len(own),
                "structures": len(set(own["structure_id"]) | set(own["other"])),
                "groups": own["group"].nunique(),
                "other_spacegroup": (own["spacegroup"] != own["spacegroup_other"]).mean(),
            }
        )
    return pd.DataFrame(rows)


def _by_all(frame: pd.DataFrame, trained: list[str]) -> pd.DataFrame:
    """Each pair once, with the number of trained models that name it and their mean distance."""
    rows = frame[frame["side"].isin(trained)]
    by_pair = rows.groupby(_PAIR)["distance"].agg(models="size", distance="mean").reset_index()
    once = rows.drop(columns=["distance", "side", "group"]).drop_duplicates(_PAIR)
    pairs = by_pair.merge(once, on=_PAIR, validate="one_to_one")
    return pairs.sort_values(
        ["models", "distance", *_PAIR], ascending=[False, True, True, True], ignore_index=True
    )


def _finding(pairs: pd.DataFrame, trained: list[str]) -> str:
    if pairs.empty:
        return "No model holds two structures of one formula for the same crystal."
    whole = int((pairs["models"] == len(trained)).sum())
    return (
        f"{len(pairs):,} pairs of one formula are the same crystal to some trained model, "
        f"{whole:,} of them to all {len(trained)}; that a pair is one crystal is for "
        "StructureMatcher to say."
    )
