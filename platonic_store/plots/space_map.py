"""The shared space as a picture: a panel a model, the same axes, atoms coloured by chemistry."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from platonic_store.geometry import pca_map
from platonic_store.storage import lookup
from platonic_store.storage.layer_sets import text_of
from platonic_store.storage.snapshot import Snapshot

# More dots than this are a blot, and a page that no browser enjoys.
MAX_ATOMS = 20_000
# Okabe and Ito's colours can be told apart by everyone; greys for the d and f blocks.
GROUPS = {
    "alkali": "#D55E00",
    "alkaline earth": "#E69F00",
    "transition metal": "#999999",
    "lanthanide, actinide": "#555555",
    "post-transition metal": "#56B4E9",
    "metalloid": "#009E73",
    "H, C, N, P": "#000000",
    "chalcogen": "#CC79A7",
    "halogen": "#0072B2",
    "noble gas": "#F0E442",
}


def draw(snapshot: Snapshot, folder: Path, space: str | None) -> list[Path]:
    """Write map.png and map.html into `folder`; returns their paths."""
    atoms, share = positions(snapshot, space)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "map.png", folder / "map.html"]
    _png(atoms, share, paths[0])
    _html(atoms, share, paths[1])
    return paths


def positions(snapshot: Snapshot, space: str | None) -> tuple[pd.DataFrame, np.ndarray]:
    """Every model's distinct atoms on the two principal axes that all of them share.

    The frame has model, x, y, structure_id, site_index, element, group and formula; the array is
    each axis's share of the variance. The axes are those of all models' atoms together.
    """
    space = lookup.space(snapshot, space, [])
    tables = [t for t in snapshot.tables if t.space == space and t.level == "atom"]
    frames, coordinates = [], []
    for table in tables:
        points = snapshot.points(table)
        rows = np.flatnonzero(points.column("site_index") == points.column("orbit"))
        rows = rows[:: max(1, len(rows) * len(tables) // MAX_ATOMS)]
        frame = points.keys.take(rows).to_pandas()
        frames.append(frame.assign(model=f"{table.model}, layer {text_of(table.layer)}"))
        coordinates.append(points.vectors[rows])
    stacked = np.concatenate(coordinates)
    axes = pca_map.principal_axes(stacked)
    atoms = pd.concat(frames, ignore_index=True)
    atoms[["x", "y"]] = pca_map.apply(axes, stacked)
    names = pd.DataFrame(
        snapshot.rows("SELECT DISTINCT atomic_number, element FROM site"),
        columns=["atomic_number", "element"],
    )
    formulas = pd.DataFrame(
        snapshot.rows("SELECT structure_id, formula FROM structure"),
        columns=["structure_id", "formula"],
    )
    atoms = atoms.merge(names, on="atomic_number").merge(formulas, on="structure_id")
    atoms["group"] = atoms["element"].map(group_of)
    return atoms, axes.explained


def group_of(symbol: str) -> str:
    """The group of the periodic table by which atoms are coloured."""
    from pymatgen.core import Element

    element = Element(symbol)
    if symbol in ("H", "C", "N", "P"):
        return "H, C, N, P"
    tests = {
        "alkali": element.is_alkali,
        "alkaline earth": element.is_alkaline,
        "lanthanide, actinide": element.is_lanthanoid or element.is_actinoid,
        "transition metal": element.is_transition_metal,
        "post-transition metal": element.is_post_transition_metal,
        "metalloid": element.is_metalloid,
        "chalcogen": element.is_chalcogen,
        "halogen": element.is_halogen,
        "noble gas": element.is_noble_gas,
    }
    return next(name for name, holds in tests.items() if holds)


def _png(atoms: pd.DataFrame, share: np.ndarray, path: Path) -> None:
    from matplotlib.figure import Figure

    models = list(dict.fromkeys(atoms["model"]))
    figure = Figure(figsize=(5.2 * len(models) + 2.2, 5.2), layout="constrained")
    panels = figure.subplots(1, len(models), sharex=True, sharey=True, squeeze=False)[0]
    for panel, model in zip(panels, models, strict=True):
        here = atoms[atoms["model"] == model].sample(frac=1, random_state=0)
        panel.scatter(here["x"], here["y"], s=9, c=here["group"].map(GROUPS), alpha=0.75, lw=0)
        panel.set(title=model, xlabel=f"axis 1 ({share[0]:.0%} of the variance)")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(f"axis 2 ({share[1]:.0%})")
    present = [name for name in GROUPS if (atoms["group"] == name).any()]
    handles = [
        panels[0].scatter([], [], s=40, c=GROUPS[name], label=name, lw=0) for name in present
    ]
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    figure.savefig(path, dpi=150)


def _html(atoms: pd.DataFrame, share: np.ndarray, path: Path) -> None:
    import plotly.express as px

    figure: Any = px.scatter(
        atoms,
        x="x",
        y="y",
        color="group",
        facet_col="model",
        color_discrete_map=GROUPS,
        category_orders={"group": list(GROUPS)},
        hover_name="structure_id",
        hover_data={"formula": True, "element": True, "site_index": True, "x": False, "y": False}
        | {"group": False, "model": False},
        labels={"x": f"axis 1 ({share[0]:.0%})", "y": f"axis 2 ({share[1]:.0%})", "group": ""},
        template="simple_white",
        render_mode="webgl",
    )
    figure.update_traces(marker={"size": 5, "opacity": 0.75})
    figure.for_each_annotation(lambda note: note.update(text=note.text.removeprefix("model=")))
    figure.update_layout(title="The same atoms as each model places them in the shared space")
    figure.write_html(path, include_plotlyjs=True)
