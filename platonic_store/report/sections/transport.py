"""Transport: what moving one model's atoms onto another's takes, and where atoms end up."""

import pandas as pd

from platonic_store import progress
from platonic_store.plots.figures import dots, periodic
from platonic_store.plots.labels import controls_among, label
from platonic_store.questions.transport import transport
from platonic_store.report.study import Comparison, Figure, Section, Study, Table
from platonic_store.storage.snapshot import ModelLayer, Snapshot

TITLE = "Transport"
ATOMS = 1_000
SERIES = {
    "own atom": "#0072B2",
    "own element": "#009E73",
    "own group": "#E69F00",
    "own atom, null": "#999999",
}
_COLUMNS = ["a", "b", "atoms", "method", "cost", "error", "cost_paired", "cost_chance"]


def section(snapshot: Snapshot, study: Study) -> Section:
    """Every pair of trained models, and every control against the first of them."""
    frame = _transported(snapshot, study)
    whole = frame[frame["element"] == "all"]
    findings, comparisons = _found(whole)
    costs = Table(
        whole[_COLUMNS],
        "Costs are means of 1 − cosine: of the cheapest transport, of leaving every atom where it "
        "is, and of sending it everywhere alike. Error bounds what the method may be off.",
    )
    return Section(
        TITLE,
        f"Optimal transport of {whole['atoms'].max():,} atoms in {study.space}, pair by pair: the "
        "model's atoms are moved onto the other's so that the mean 1 − cosine is least, without "
        "being told which atom is which.",
        [_shares(whole), *_elements(frame), costs],
        frames={"transport": frame},
        caveat="A low cost says that two clouds coincide, not that either is right.",
        findings=findings,
        comparisons=comparisons,
    )


def _found(whole: pd.DataFrame) -> tuple[list[str], list[Comparison]]:
    controls_in = controls_among(whole, "a", "b")
    trained, mixed = whole[controls_in == 0], whole[controls_in == 1]
    if trained.empty:
        return [], []
    own, element = trained["own_atom"].mean(), trained["own_element"].mean()
    null, control = trained["own_atom_null"].mean(), mixed["own_atom"].max()
    finding = (
        f"Moved onto another trained model's atoms at the least cost, {own:.0%} of a model's "
        f"atoms end on themselves (shuffled: at most {null:.1%}) and {element:.0%} on their own "
        "element."
    )
    return [finding], [Comparison("transport, share on its own atom", own, control, null)]


def _transported(snapshot: Snapshot, study: Study) -> pd.DataFrame:
    study.sides_in_space(least=2)
    pairs, frames = study.pairs(), []
    with progress.bar("transport", len(pairs), "pairs") as advance:
        for a, b in pairs:
            frames.append(_pair(snapshot, study, a, b))
            advance(1)
    return pd.concat(frames, ignore_index=True)


def _pair(snapshot: Snapshot, study: Study, a: ModelLayer, b: ModelLayer) -> pd.DataFrame:
    return transport(snapshot, str(a), str(b), space=study.space, atoms=ATOMS, seed=study.seed)


def _shares(whole: pd.DataFrame) -> Figure:
    pair = whole["a"].map(label) + " → " + whole["b"].map(label)
    columns = ("own_atom", "own_element", "own_group", "own_atom_null")
    long = pd.concat(
        whole.assign(pair=pair, series=name, value=whole[column])
        for name, column in zip(SERIES, columns, strict=True)
    )
    plot = dots(
        long,
        value="value",
        name="pair",
        series="series",
        colours=SERIES,
        title="share of the mass",
        range=(-0.02, 1.02),
    )
    return Figure(
        plot,
        "The share of the mass that the cheapest transport leaves on its own atom, its own element "
        "and its own group of the periodic table. Grey: the 95 % point of its own atom's share "
        "where the atoms are shuffled.",
        "To stay on its own element takes no physics: a control that knows nothing but elements "
        "does that.",
        legend=SERIES,
    )


def _elements(frame: pd.DataFrame) -> list[Figure]:
    alone = frame[(frame["element"] != "all") & (controls_among(frame, "a", "b") == 0)]
    if alone.empty:
        return []
    shares = alone.groupby("element")["own_atom"].mean()
    return [
        Figure(
            periodic(shares, title="own atom", low=0, high=1),
            "Element by element: the share of an element's atoms that end on themselves when only "
            "they are moved, the mean over the pairs of trained models.",
            "Elements with fewer atoms in the store have it easier: transport.parquet has the "
            "number, chance and null of each.",
        )
    ]
