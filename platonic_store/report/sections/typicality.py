"""Which crystals look unlike what the models know, and whether the models name the same ones."""

import numpy as np
import pandas as pd

from platonic_store import progress
from platonic_store.plots.figures import colours_of, heat, legend_of, steps
from platonic_store.plots.labels import is_control, label
from platonic_store.questions.typicality import CAVEAT, typicality
from platonic_store.report.study import Comparison, Figure, Section, Study, Table
from platonic_store.storage.snapshot import Snapshot

TITLE = "Typicality"
SHOWN = 15


def section(snapshot: Snapshot, study: Study) -> Section:
    """Every model's scores, how far their orders agree, and the extremes."""
    frame, disputed = _scores(snapshot, study), _disputed(snapshot)
    scores = frame.pivot(index="structure_id", columns="side", values="atypicality")
    sides = [str(side) for side in study.sides if str(side) in scores]
    trained = [side for side in sides if not is_control(side)] or sides
    ranks = scores[sides].dropna().rank(pct=True)
    summary = pd.DataFrame(
        {
            "mean_rank": ranks[trained].mean(axis=1),
            "rank_spread": ranks[trained].max(axis=1) - ranks[trained].min(axis=1),
        }
    )
    findings, comparisons = _agreement(ranks, trained)
    return Section(
        TITLE,
        _lead(frame, trained),
        [*_figures(scores, ranks, trained), *_tables(frame, summary, disputed, trained)],
        frames={
            "typicality": frame,
            "typicality_ranks": summary.reset_index(),
            "disagreement": disputed,
        },
        caveat=CAVEAT[0].upper() + CAVEAT[1:] + ".",
        findings=findings,
        comparisons=comparisons,
    )


def _figures(scores: pd.DataFrame, ranks: pd.DataFrame, trained: list[str]) -> list[Figure]:
    correlation = ranks.corr().rename(index=label, columns=label)
    return [
        Figure(
            steps(
                {label(side): np.log10(scores[side][scores[side] > 0]) for side in trained},
                colours=colours_of(trained),
                title="log₁₀ of the atypicality",
            ),
            "How each model's scores are distributed; on the right, what it has seen little like.",
            "Each model measures in its own embeddings: a curve further right is not a model less "
            "sure. Compare ranks, not values.",
            legend=legend_of(trained),
        ),
        Figure(
            heat(correlation, title="rank correlation", low=min(0, correlation.min().min())),
            "Whether two models order the structures alike (Spearman).",
            "Controls that correlate as well show that rarity of composition or geometry alone "
            "explains the order.",
        ),
    ]


def _tables(
    frame: pd.DataFrame, summary: pd.DataFrame, disputed: pd.DataFrame, trained: list[str]
) -> list[Table]:
    tables = [
        _extremes(
            frame,
            summary["mean_rank"],
            trained,
            "The least typical to all trained models together, by the mean of their ranks, 1 the "
            "least typical. Each model's p is the share of held-out structures that score at least "
            f"so high. Site and nearest typical structure are those of {trained[0]}.",
        )
    ]
    if len(trained) > 1:
        caption = "Where their orders differ most: the highest of the ranks less the lowest."
        tables.append(_extremes(frame, summary["rank_spread"], trained, caption))
    if len(disputed):
        tables.append(
            Table(
                disputed.head(SHOWN),
                "Where the models whose scores are stored agree least on which typical "
                "atoms are most like a structure's: disagreement is by the atom site_index; p is "
                "the consensus of all of them on how atypical the structure is.",
            )
        )
    return tables


def _scores(snapshot: Snapshot, study: Study) -> pd.DataFrame:
    """Every structure's score by every side: those of the store, or else computed now."""
    frames = []
    with progress.bar("typicality", len(study.sides), "models") as advance:
        for side in study.sides:
            rows = typicality(snapshot, model=str(side))
            frames.append(rows.assign(side=str(side)))
            advance(1)
    formulas = dict(snapshot.rows("SELECT structure_id, formula FROM structure"))
    frame = pd.concat(frames, ignore_index=True)
    frame["formula"] = frame["structure_id"].map(formulas)
    frame["nearest_formula"] = frame["nearest_id"].map(formulas)
    return frame


def _disputed(snapshot: Snapshot) -> pd.DataFrame:
    """The view `disagreement`, which is empty until `score` has run."""
    return snapshot.frame(
        "SELECT structure_id, formula, disagreement, p_disagreement, p, site_index, "
        "array_to_string(models, ', ') AS models "
        "FROM disagreement JOIN structure USING (structure_id) "
        "ORDER BY disagreement DESC NULLS LAST, structure_id"
    )


def _extremes(frame: pd.DataFrame, score: pd.Series, trained: list[str], caption: str) -> Table:
    chosen = score.sort_index().sort_values(ascending=False, kind="stable").head(SHOWN)
    first = frame[frame["side"] == trained[0]].set_index("structure_id").loc[chosen.index]
    p = frame.pivot(index="structure_id", columns="side", values="p").loc[chosen.index, trained]
    shown = pd.concat(
        [
            first[["formula"]],
            chosen,
            p.rename(columns=lambda side: f"p, {side}"),
            first[["element", "site_index", "nearest_formula", "nearest_id"]],
        ],
        axis=1,
    )
    return Table(shown.reset_index(), caption)


def _lead(frame: pd.DataFrame, trained: list[str]) -> str:
    atypical = [(frame.loc[frame["side"] == side, "p"] <= 0.05).mean() for side in trained]
    shares = ", ".join(
        f"{share:.1%} to {label(side)}" for side, share in zip(trained, atypical, strict=True)
    )
    number = frame["structure_id"].nunique()
    return f"Of {number:,} structures, these shares are atypical at p ≤ 0.05: {shares}."


def _agreement(ranks: pd.DataFrame, trained: list[str]) -> tuple[list[str], list[Comparison]]:
    """The rank correlation of trained models among themselves and with controls."""
    if len(trained) < 2:
        return [], []
    correlation = ranks.corr()
    pairs = correlation.loc[trained, trained].to_numpy()[np.triu_indices(len(trained), 1)]
    control = correlation.loc[trained].drop(columns=trained).max().max()
    top = max(1, len(ranks) // 20)
    least = [set(ranks[side].nlargest(top).index) for side in trained]
    shared = len(set.intersection(*least)) / top
    finding = (
        f"The trained models order the structures from typical to atypical with a rank correlation "
        f"of {pairs.mean():.2f} ({pairs.min():.2f} to {pairs.max():.2f}), and {shared:.0%} of the "
        f"least typical twentieth is the same to all of them (by chance "
        f"{0.05 ** (len(trained) - 1):.1%})."
    )
    return [finding], [
        Comparison("order of typicality, rank correlation", pairs.mean(), control, 0)
    ]
