"""Arithmetic: whether a difference between crystals means the same in another context."""

from itertools import permutations

import pandas as pd

from platonic_store import progress
from platonic_store.plots.figures import dots, heat, wide
from platonic_store.plots.labels import controls_among, is_control, label
from platonic_store.questions.shared import substitutions
from platonic_store.report.study import Comparison, Figure, Section, Study, Table
from platonic_store.storage.snapshot import Snapshot

TITLE = "Analogies"
CASES = 1_000
SERIES = {"the analogy": "#0072B2", "nearest neighbour alone": "#D55E00"}
_COLUMNS = ["model", "hit", "low", "high", "formula", "polymorph", "nearest", "cases"]


def section(snapshot: Snapshot, study: Study) -> Section:
    """The store's own substitution analogies, within each model and across each pair."""
    posed = substitutions.cases(snapshot, limit=CASES, seed=study.seed)
    alone = substitutions.score_of_composition(snapshot, posed, seed=study.seed)
    formulas = dict(snapshot.rows("SELECT structure_id, formula FROM structure"))
    scored = _scored(snapshot, study, posed)
    within, across = scored[scored["across"].isna()], scored[scored["across"].notna()]
    examples = [_written(posed, formulas, row) for row in (0, -1)]
    blocks = _within(pd.concat([within, alone]))
    findings, comparisons = _found_within(within, alone, examples[0])
    if len(across):
        blocks.append(_across(across, study))
        more, others = _found_across(across)
        findings, comparisons = findings + more, comparisons + others
    return Section(
        TITLE,
        f"{len(posed):,} analogies of one prototype in which one element is exchanged for another "
        f"in two contexts, such as {'; '.join(examples)}. All structures of the store are "
        "candidates, the three terms excepted.",
        blocks,
        frames={"analogies": pd.concat([scored, alone], ignore_index=True)},
        caveat="A prototype is here what the catalogue knows: space group, number of sites and the "
        "sizes of the sets of equivalent ones. Cases share structures; the intervals resample "
        "whole answers, no more.",
        findings=findings,
        comparisons=comparisons,
    )


def _found_within(
    within: pd.DataFrame, alone: pd.DataFrame, example: str
) -> tuple[list[str], list[Comparison]]:
    is_trained = ~within["model"].map(is_control).astype(bool)
    trained, controls = within[is_trained], pd.concat([within[~is_trained], alone])
    findings = [
        f"“{example}”: of {cases:,} such analogies that the store poses itself, {label(model)} "
        f"answers {hit:.0%} within its own embeddings; the nearest neighbour of the first term is "
        f"right in {nearest:.0%}, composition alone in {alone['hit'].iloc[0]:.0%}."
        for model, hit, nearest, cases in trained.nlargest(1, "hit")[
            ["model", "hit", "nearest", "cases"]
        ].to_numpy()
    ]
    score, null = trained["hit"].mean(), trained["nearest"].mean()
    return findings, [Comparison("analogies within a model", score, controls["hit"].max(), null)]


def _found_across(across: pd.DataFrame) -> tuple[list[str], list[Comparison]]:
    controls_in = controls_among(across, "model", "across")
    pairs, mixed = across[controls_in == 0], across[controls_in == 1]
    if pairs.empty:
        return [], []
    hit, null = pairs["hit"], pairs["nearest"].mean()
    control = f"with a control in one's place at most {mixed['hit'].max():.0%}; "
    finding = (
        f"Asked by one trained model and answered by another, analogies come out right in "
        f"{hit.mean():.0%} of cases ({hit.min():.0%} to {hit.max():.0%}; "
        f"{control if len(mixed) else ''}the nearest neighbour alone {null:.0%})."
    )
    return [finding], [Comparison("analogies across models", hit.mean(), mixed["hit"].max(), null)]


def _scored(snapshot: Snapshot, study: Study, posed: pd.DataFrame) -> pd.DataFrame:
    """A row for each side alone, and for each ordered pair in the space."""
    asked = [(side, None) for side in study.sides] + list(permutations(study.shared, 2))
    rows = []
    with progress.bar("analogies", len(asked), "models") as advance:
        for side, other in asked:
            rows.append(
                substitutions.score(
                    snapshot,
                    posed,
                    str(side),
                    str(other) if other else None,
                    space=study.space if other else None,
                    seed=study.seed,
                )
            )
            advance(1)
    return pd.concat(rows, ignore_index=True)


def _written(posed: pd.DataFrame, formulas: dict[str, str], row: int) -> str:
    start, minus, plus, target = posed[["start", "minus", "plus", "target"]].iloc[row].map(formulas)
    return f"{start} − {minus} + {plus} → {target}"


def _within(shown: pd.DataFrame) -> list[Figure | Table]:
    hits = shown.assign(series="the analogy", value=shown["hit"])
    baseline = shown.assign(series="nearest neighbour alone", value=shown["nearest"])
    baseline["low"] = baseline["high"] = baseline["value"]
    long = pd.concat([hits, baseline])
    plot = dots(
        long.assign(name=long["model"].map(label)),
        value="value",
        name="name",
        series="series",
        colours=SERIES,
        title="hit@1",
        interval=("low", "high"),
        range=(0, 1.02),
    )
    return [
        Figure(
            plot,
            "The share of analogies whose nearest crystal is the right one, with the interval of "
            "95 in 100 bootstrap samples; beside it the nearest neighbour of the first term.",
            "The elements alone answer many of these: what composition reaches is no merit of a "
            "model.",
            legend=SERIES,
        ),
        Table(
            shown[_COLUMNS],
            "Formula: the nearest crystal has at least the right formula. Polymorph: hits where "
            "the answer has rivals of its own formula, which composition cannot tell apart.",
        ),
    ]


def _across(across: pd.DataFrame, study: Study) -> Figure:
    order = [str(side) for side in study.shared]
    matrix = wide(across, "model", "across", "hit", order).rename(index=label, columns=label)
    return Figure(
        heat(matrix, title="hit@1"),
        "The three terms are one model's (rows), the candidates another's (columns), in the "
        "shared space.",
        f"Rows and columns are in the space {study.space}. Answers that hold an anchor are left "
        "out, since an anchor finds itself.",
    )
