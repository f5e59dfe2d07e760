"""Alignment: how alike each two models see the same atoms, calibrated against chance."""

import pandas as pd

from platonic_store import progress
from platonic_store.plots.figures import dots, heat
from platonic_store.plots.labels import controls_among, label
from platonic_store.questions.align import align
from platonic_store.report.study import Comparison, Figure, Section, Study, Table
from platonic_store.storage.snapshot import Snapshot

TITLE = "Alignment"
ATOMS = 500
HEADLINES = {
    "retrieval@10": "How often an atom, asked with the model of the row, is among the ten nearest "
    "atoms of the model of the column, in the shared space.",
    "mutual_knn": "The share of an atom's ten nearest other atoms that both models have in common, "
    "each in its own embeddings.",
}
_COLUMNS = ["from", "to", "value", "low", "high", "null", "null_high", "calibrated", "p"]


def section(snapshot: Snapshot, study: Study) -> Section:
    """A matrix of the models by the headline measures; all measures with null and interval."""
    frame = _aligned(snapshot, study)
    shown = [name for name in HEADLINES if (frame["measure"] == name).any()]
    blocks: list[Figure | Table] = [
        _matrix(frame[frame["measure"] == name], name, study) for name in shown
    ]
    blocks += [_intervals(frame), _summary(frame)]
    first = frame[frame["measure"] == shown[0]]
    atoms, structures = first["atoms"].max(), first["structures"].max()
    trained = first[controls_among(first, "from", "to") == 0].sort_values("value")
    findings = []
    if len(trained):
        low, high = trained.iloc[0], trained.iloc[-1]
        findings.append(
            f"By {shown[0]}, the trained models reach {trained['value'].mean():.2f} among {atoms:,}"
            f" atoms, from {low['value']:.2f} ({label(low['from'])} asking {label(low['to'])}) to "
            f"{high['value']:.2f} ({label(high['from'])} asking {label(high['to'])}); shuffled "
            f"atoms at most {first['null_high'].max():.3f} in 95 of 100."
        )
    return Section(
        TITLE,
        f"The same {atoms:,} distinct atoms of {structures:,} structures, as each two trained "
        "models see them, and as the first of them and each control do.",
        blocks,
        frames={"alignment": frame},
        caveat="Models that share training data may agree because of it. Out of distribution, "
        "models agree where they collapse together; no score here tells the two apart.",
        findings=findings,
        comparisons=[_comparison(frame[frame["measure"] == name], name) for name in shown],
    )


def _aligned(snapshot: Snapshot, study: Study) -> pd.DataFrame:
    """What `align` says of each pair, with its sides as `from` and `to`."""
    study.sides_in_space(least=2)
    # All trained models at once, since each is read once then; controls with the first of them.
    several, frames = [study.trained] if len(study.trained) > 1 else [], []
    several += [[a, b] for a, b in study.pairs() if b not in study.trained]
    with progress.bar("alignment", len(several), "comparisons") as advance:
        for sides in several:
            names = [str(side) for side in sides]
            frames.append(align(snapshot, names, space=study.space, atoms=ATOMS, seed=study.seed))
            advance(1)
    frame = pd.concat(frames, ignore_index=True)
    return frame.rename(columns={"a": "from", "b": "to"})


def _matrix(rows: pd.DataFrame, measure: str, study: Study) -> Figure:
    mirrored = rows.rename(columns={"from": "to", "to": "from"})
    both = pd.concat([rows, mirrored]).drop_duplicates(["from", "to"])
    order = [str(side) for side in study.shared]
    matrix = both.pivot(index="from", columns="to", values="value").reindex(order, columns=order)
    return Figure(
        heat(matrix.rename(index=label, columns=label), title=measure),
        HEADLINES[measure],
        f"Of shuffled atoms 95 in 100 reach at most {rows['null_high'].max():.3f}. What a pair "
        "with a control reaches needs no training.",
    )


def _intervals(frame: pd.DataFrame) -> Figure:
    measures = list(dict.fromkeys(frame["measure"]))
    kinds = {0: "two trained models", 1: "one is a control"}
    colours = {"two trained models": "#0072B2", "one is a control": "#999999"}
    frame = frame.assign(kind=controls_among(frame, "from", "to").map(kinds))
    frame["order"] = frame["measure"].map(measures.index)
    return Figure(
        dots(
            frame.sort_values("order", kind="stable"),
            value="calibrated",
            name="measure",
            series="kind",
            colours=colours,
            title="calibrated: 0 by chance, 1 for a model with itself",
        ),
        "Every pair by every measure, each calibrated by its own null.",
        "Measures see different things (neighbours, linear maps, distances): that one is higher "
        "than another says nothing.",
        legend=colours,
    )


def _summary(frame: pd.DataFrame) -> Table:
    table = frame[["measure", *_COLUMNS]]
    return Table(
        table,
        "Low and high: 95% interval over structures, since atoms of one structure are not "
        "independent. Null: the mean over shuffled atoms; null high its 95% point; p against it. "
        "The measures are explained in the documentation of `platonic-store align`.",
    )


def _comparison(rows: pd.DataFrame, measure: str) -> Comparison:
    controls_in = controls_among(rows, "from", "to")
    trained, mixed = rows[controls_in == 0], rows[controls_in == 1]
    return Comparison(
        measure, trained["value"].mean(), mixed["value"].max(), rows["null_high"].max()
    )
