"""Which crystals look unlike what the models know, and whether the models name the same ones."""

import numpy as np
import pandas as pd

from platonic_store import progress
from platonic_store.questions.typicality import CAVEAT, gather, judge
from platonic_store.reader import Reader
from platonic_store.report.figures import colours_of, heat, legend_of, steps
from platonic_store.report.study import Figure, Section, Study, Table, is_control, label

TITLE = "Typicality"
SHOWN = 15


def section(store: Reader, study: Study) -> Section:
    """Every model's scores, how far their orders agree, and the extremes."""
    frame = _judged(store, study)
    scores = frame.pivot(index="id", columns="side", values="atypicality")
    sides = [str(side) for side in study.sides if str(side) in scores]
    trained = [side for side in sides if not is_control(side)] or sides
    scores = scores[sides].dropna()
    ranks = scores.rank(pct=True)
    summary = pd.DataFrame(
        {
            "consensus": ranks[trained].mean(axis=1),
            "disagreement": ranks[trained].max(axis=1) - ranks[trained].min(axis=1),
        }
    )
    correlation = ranks.corr().rename(index=label, columns=label)
    blocks: list[Figure | Table] = [
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
        _extremes(
            frame,
            summary["consensus"],
            trained,
            "The least typical to all trained models together. Consensus is the mean of their "
            "ranks, 1 the least typical; each model's p is the share of held-out structures "
            "that score at least so high. Site and nearest typical structure are "
            f"those of {trained[0]}.",
        ),
    ]
    if len(trained) > 1:
        blocks.append(
            _extremes(
                frame,
                summary["disagreement"],
                trained,
                "Where the trained models disagree most: the difference between the highest and "
                "the lowest of their ranks.",
            )
        )
    return Section(
        TITLE,
        _lead(frame, trained, correlation),
        blocks,
        frames={"typicality": frame, "consensus": summary.reset_index()},
        caveat=CAVEAT[0].upper() + CAVEAT[1:] + ".",
        findings=_findings(scores[trained], ranks[trained]),
    )


def _judged(store: Reader, study: Study) -> pd.DataFrame:
    """Every structure's score by every side: those of the store, or else computed now."""
    frames = []
    with progress.bar("typicality", len(study.sides), "models") as advance:
        for side in study.sides:
            with store.snapshot() as snapshot:
                waiting = gather(snapshot, model=side.model, layer=side.layer)
            frames.append(judge(waiting).assign(side=str(side)))
            advance(1)
    with store.snapshot() as snapshot:
        formulas = dict(snapshot.rows("SELECT id, formula FROM structure"))
    frame = pd.concat(frames, ignore_index=True)
    frame["formula"] = frame["id"].map(formulas)
    frame["nearest_formula"] = frame["nearest_id"].map(formulas)
    return frame


def _extremes(frame: pd.DataFrame, score: pd.Series, trained: list[str], caption: str) -> Table:
    chosen = score.sort_index().sort_values(ascending=False, kind="stable").head(SHOWN)
    first = frame[frame["side"] == trained[0]].set_index("id").loc[chosen.index]
    p = frame.pivot(index="id", columns="side", values="p").loc[chosen.index, trained]
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


def _lead(frame: pd.DataFrame, trained: list[str], correlation: pd.DataFrame) -> str:
    atypical = [(frame.loc[frame["side"] == side, "p"] <= 0.05).mean() for side in trained]
    shares = ", ".join(
        f"{share:.1%} to {label(side)}" for side, share in zip(trained, atypical, strict=True)
    )
    return (
        f"Of {frame['id'].nunique():,} structures, these shares are atypical at p ≤ 0.05: {shares}."
    )


def _findings(scores: pd.DataFrame, ranks: pd.DataFrame) -> list[str]:
    if ranks.shape[1] < 2:
        return []
    pairs = ranks.corr().to_numpy()[np.triu_indices(ranks.shape[1], 1)]
    top = max(1, len(ranks) // 20)
    least = [set(scores[side].nlargest(top).index) for side in scores]
    shared = len(set.intersection(*least)) / top
    return [
        f"The trained models order the structures from typical to atypical with a rank correlation "
        f"of {pairs.mean():.2f} ({pairs.min():.2f} to {pairs.max():.2f}), and {shared:.0%} of the "
        f"least typical twentieth is the same to all of them (chance: "
        f"{0.05 ** (scores.shape[1] - 1):.2g})."
    ]
