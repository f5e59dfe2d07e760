"""The shared space: the same atoms in every panel."""

from html import escape
from typing import NamedTuple

import numpy as np
import pandas as pd

from platonic_store.geometry import pca_map
from platonic_store.geometry.projection import fit, project
from platonic_store.plots.figures import panels
from platonic_store.plots.labels import label
from platonic_store.plots.space_map import GROUPS, group_of
from platonic_store.questions.shared.pairing import paired_embeddings
from platonic_store.report.study import Figure, Section, Study
from platonic_store.storage.snapshot import Snapshot

TITLE = "The shared space"

# Browsers draw this many dots without making the reader wait.
MAX_DOTS = 15_000
MAX_ATOMS = 3_000
_IS_ANCHOR = (
    "(structure_id, site_index) IN (SELECT a.structure_id, a.site_index "
    "FROM catalog.main.anchors AS a JOIN catalog.main.spaces AS s USING (anchor_set) "
    "WHERE s.id = '{}')"
)


class Placed(NamedTuple):
    """A row a side and atom, with x and y on axes that hold these shares of the variance."""

    atoms: pd.DataFrame
    explained: np.ndarray
    anchors: int


def section(snapshot: Snapshot, study: Study) -> Section:
    """A panel a model, on the axes along which the trained models' atoms vary most."""
    atoms, explained, anchors = _placed(snapshot, study)
    frames = {label(side): atoms[atoms["model"] == str(side)] for side in study.shared}
    first = next(iter(frames.values()))
    plot = panels(
        frames,
        colours=first["group"].map(GROUPS).tolist(),
        hover=[
            f"{escape(str(formula))}, {element} at site {site}<br>{escape(id_)}"
            for id_, site, element, formula in first[
                ["structure_id", "site_index", "element", "formula"]
            ].to_numpy()
        ],
        x=f"axis 1 ({explained[0]:.0%})",
        y=f"axis 2 ({explained[1]:.0%})",
    )
    return Section(
        TITLE,
        f"{len(first):,} distinct atoms (a sample by content, seed {study.seed}), each in every "
        f"panel, as {len(frames)} models place them: by their cosines with the {anchors:,} anchors "
        f"of {study.space}, seen from the anchors' mean (the recipe `centred`, whichever is the "
        "space's own). All panels share the two axes along which the trained models' atoms vary "
        f"most, {explained.sum():.0%} of their variance.",
        [
            Figure(
                plot,
                "Where panels look alike, models place the same chemistry in the same region; "
                "point at an atom to find it in every panel.",
                "Two axes are a shadow of the space: what overlaps here may be far apart there, "
                "and panels that look alike are no measure. The next section measures.",
                legend={name: GROUPS[name] for name in GROUPS if (first["group"] == name).any()},
                linked=True,
            )
        ],
        frames={"space": atoms},
    )


def _placed(snapshot: Snapshot, study: Study) -> Placed:
    sides = study.sides_in_space()
    anchors = paired_embeddings(snapshot, sides, where=_IS_ANCHOR.format(study.space))
    sample = min(MAX_ATOMS, MAX_DOTS // len(sides))
    keys, rows, _ = paired_embeddings(snapshot, sides, sample=sample, seed=study.seed)
    symbols = dict(snapshot.rows("SELECT DISTINCT atomic_number, element FROM site"))
    formulas = dict(snapshot.rows("SELECT structure_id, formula FROM structure"))
    seen = {
        side: project(fit("centred", ruler), embedded)
        for side, ruler, embedded in zip(sides, anchors.vectors, rows, strict=True)
    }
    of_axes = study.trained or sides
    axes = pca_map.principal_axes(np.concatenate([seen[side] for side in of_axes]))
    keys["element"] = keys["atomic_number"].map(symbols)
    keys["group"] = keys["element"].map({symbol: group_of(symbol) for symbol in symbols.values()})
    keys["formula"] = keys["structure_id"].map(formulas)
    placed = []
    for side, coordinates in seen.items():
        x, y = pca_map.apply(axes, coordinates).T
        placed.append(keys.assign(model=str(side), x=x, y=y))
    return Placed(pd.concat(placed, ignore_index=True), axes.explained, len(anchors.keys))
