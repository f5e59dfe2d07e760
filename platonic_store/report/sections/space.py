"""The shared space: the same atoms in every panel."""

from html import escape

import numpy as np
import pandas as pd

from platonic_store.geometry import map as flat_map
from platonic_store.geometry.projection import fit, project
from platonic_store.picture import GROUPS, group_of
from platonic_store.questions.together import together
from platonic_store.reader import Reader
from platonic_store.report.figures import panels
from platonic_store.report.study import Figure, Section, Study, label

TITLE = "The shared space"

# Browsers draw this many dots without making the reader wait.
MAX_DOTS = 15_000
MAX_ATOMS = 3_000
_IS_ANCHOR = (
    "(structure_id, site_index) IN (SELECT a.structure_id, a.site_index "
    "FROM catalog.main.anchors AS a JOIN catalog.main.spaces AS s USING (anchor_set) "
    "WHERE s.id = '{}')"
)


def section(store: Reader, study: Study) -> Section:
    """A panel a model, on the axes along which the trained models' atoms vary most."""
    sides = study.sides_in_space()
    with store.snapshot() as snapshot:
        anchors = together(snapshot, sides, where=_IS_ANCHOR.format(study.space))
        sample = min(MAX_ATOMS, MAX_DOTS // len(sides))
        keys, atoms = together(snapshot, sides, sample=sample, seed=study.seed)
        symbols = dict(snapshot.rows("SELECT DISTINCT atomic_number, element FROM site"))
        formulas = dict(snapshot.rows("SELECT id, formula FROM structure"))
    vectors = [
        project(fit("centred", ruler), rows)
        for ruler, rows in zip(anchors.vectors, atoms, strict=True)
    ]
    of_axes = study.trained or sides
    axes = flat_map.principal_axes(
        np.concatenate([v for side, v in zip(sides, vectors, strict=True) if side in of_axes])
    )
    keys["element"] = keys["atomic_number"].map(symbols)
    groups = {symbol: group_of(symbol) for symbol in keys["element"].unique()}
    keys["group"] = keys["element"].map(groups)
    frame = pd.concat(
        keys.assign(model=str(side), x=xy[:, 0], y=xy[:, 1])
        for side, xy in zip(sides, (flat_map.apply(axes, v) for v in vectors), strict=True)
    )
    hover = [
        f"{escape(str(formulas[id_]))}, {element} at site {site}<br>{escape(id_)}"
        for id_, site, element in keys[["structure_id", "site_index", "element"]].itertuples(
            index=False
        )
    ]
    plot = panels(
        {label(side): frame[frame["model"] == str(side)] for side in sides},
        colours=keys["group"].map(GROUPS).tolist(),
        hover=hover,
        x=f"axis 1 ({axes.explained[0]:.0%} of the variance)",
        y=f"axis 2 ({axes.explained[1]:.0%})",
    )
    present = {name: colour for name, colour in GROUPS.items() if name in set(groups.values())}
    return Section(
        TITLE,
        f"{len(keys):,} distinct atoms (a sample by content, seed {study.seed}), each in every "
        f"panel, as {len(sides)} models place them: by their cosines with the "
        f"{len(anchors.keys)} anchors of {study.space}, seen from the anchors' mean. All panels "
        "share the two axes along which the trained models' atoms vary most, "
        f"{axes.explained.sum():.0%} of their variance.",
        [
            Figure(
                plot,
                "Where panels look alike, models place the same chemistry in the same region; "
                "point at an atom to find it in every panel.",
                "Two axes are a shadow of the space: what overlaps here may be far apart there, "
                "and panels that look alike are no measure. The next section measures.",
                legend=present,
                linked=True,
            )
        ],
        frames={"space": frame},
    )
