"""Every comparison of the page beside its controls and its null."""

from collections.abc import Sequence

import pandas as pd

from platonic_store.errors import Call, InvalidQuery
from platonic_store.plots.figures import CONTROL, dots
from platonic_store.report.study import Figure, Section, Table

TITLE = "Controls"
SERIES = {"trained models": "#0072B2", "best control": CONTROL, "null": "#D55E00"}


def section(sections: Sequence[Section]) -> Section:
    """What the sections before measured, with trained models, with controls, and by chance."""
    rows = [comparison for section in sections for comparison in section.comparisons]
    if not rows:
        raise InvalidQuery(
            "no section compared anything", Call("ingest", models=["NAME", "control:composition"])
        )
    frame = pd.DataFrame(rows)
    long = frame.rename(columns={"trained": "trained models", "control": "best control"}).melt(
        "measure", list(SERIES), var_name="series"
    )
    return Section(
        TITLE,
        "What training brought is the distance between the blue dot and the grey one, not the "
        "height of the blue one.",
        [
            Figure(
                dots(
                    long,
                    value="value",
                    name="measure",
                    series="series",
                    colours=SERIES,
                    title="score",
                ),
                "Each measure of this page once more: the trained models' mean, the control that "
                "does best in their place, and what chance gives.",
                "Measures differ in what a point of theirs is worth: compare dots within a row, "
                "not rows.",
                legend=SERIES,
            ),
            Table(
                frame,
                "The same as numbers; a dash where the store holds no control or none applies.",
            ),
        ],
        frames={"controls": frame},
    )
