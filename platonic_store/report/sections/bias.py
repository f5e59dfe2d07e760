"""Bias: where one model's neighbourhoods differ from all others'."""

import pandas as pd

from platonic_store import progress
from platonic_store.errors import Call, InvalidQuery
from platonic_store.plots.figures import periodic
from platonic_store.plots.labels import is_control, label
from platonic_store.questions.bias import bias
from platonic_store.questions.collapsed_pairs import collapsed_pairs
from platonic_store.questions.shared.one_against_others import CAVEAT
from platonic_store.report.study import Figure, Section, Study, Table
from platonic_store.storage.snapshot import Snapshot

TITLE = "Bias"
STRUCTURES = 2_000
PAIRS = 5
SHOWN = 4


def section(snapshot: Snapshot, study: Study) -> Section:
    """For each trained model what it sees differently, and the pairs that it alone collapses."""
    trained = [side for side in study.sides if not is_control(side)]
    if not trained:
        raise InvalidQuery("no trained model is here", Call("ingest", models=["NAME"]))
    groups, pairs = [], []
    with progress.bar("bias", len(trained), "models") as advance:
        for side in trained:
            model, seed = str(side), study.seed
            groups.append(bias(snapshot, model=model, structures=STRUCTURES, seed=seed))
            pairs.append(
                collapsed_pairs(snapshot, model=model, k=PAIRS, structures=STRUCTURES, seed=seed)
            )
            advance(1)
    frame, collapsed = pd.concat(groups, ignore_index=True), pd.concat(pairs, ignore_index=True)
    telling = frame[(frame["p_any"] <= 0.05) & (frame["effect"] > 0)]
    first = telling.sort_values("effect", ascending=False).groupby(["model", "kind"]).head(SHOWN)
    by_element = frame[frame["kind"] == "element"]
    spread = by_element.groupby("value")["overlap"].mean()
    return Section(
        TITLE,
        f"Of {len(frame):,} groups of structures (by element, group of the periodic table, space "
        f"group, crystal system and dimensionality, for {len(trained)} models), {len(telling)} "
        "have neighbourhoods that one model sees differently from all others, at a probability of "
        "5% for any such group by chance.",
        [
            Figure(
                periodic(spread, title="overlap", low=0, high=spread.max()),
                "The share of a structure's ten nearest that one model has in common with the "
                "others, by the elements it contains, the mean over the models: dark is where "
                "models disagree about who resembles whom.",
                "Disagreement has no side: it does not say which model is odd, or wrong.",
            ),
            Table(
                first.sort_values(["model", "kind", "effect"], ascending=[True, True, False]),
                f"For each model and kind the groups that it sees most differently, at most "
                f"{SHOWN}, where p any (for any group, by permutation) is 0.05 or less. Effect is "
                "in standard deviations; overlap is with the others, overlap others among those.",
            ),
            Table(
                collapsed,
                "Pairs that a model holds for nearly the same and every other model tells apart. "
                "Distances are in the models' median distance of nearest neighbours; p is the "
                "share of such pairs with as large an effect where the others are in its place.",
            ),
        ],
        frames={"bias": frame, "collapsed_pairs": collapsed},
        caveat=CAVEAT[0].upper() + CAVEAT[1:] + ".",
        findings=_findings(telling),
    )


def _findings(telling: pd.DataFrame) -> list[str]:
    elements = telling[telling["kind"] == "element"].nlargest(1, "effect")
    columns = ["model", "value", "overlap", "overlap_others"]
    return [_finding(*row) for row in elements[columns].to_numpy()]


def _finding(model: str, value: str, overlap: float, others: float) -> str:
    # With two models there is one other, which shares with nobody.
    among = "" if pd.isna(others) else f", which share {others:.0%} among themselves"
    return (
        f"The neighbourhood that one model sees most differently from the others is that of "
        f"structures with {value}, by {label(model)}: {overlap:.0%} of their ten nearest are "
        f"shared with the others{among}."
    )
