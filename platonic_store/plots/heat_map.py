"""Alignment as a picture: a matrix of models for each measure."""

from pathlib import Path

import numpy as np
import pandas as pd

from platonic_store.errors import InvalidQuery

SUFFIXES = (".png", ".svg", ".pdf")


def draw(aligned: pd.DataFrame, path: Path) -> None:
    """Write a heat map of calibrated scores for each measure of an `align` frame.

    Rows ask and columns answer where a measure has a direction. The scale is 0, what shuffled atoms
    get, to 1, a model with itself.

    Raises: InvalidQuery for another kind of file.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidQuery(
            f"{path.suffix or path} is no format of pictures", f"use {', '.join(SUFFIXES)}"
        )
    from matplotlib.figure import Figure

    measures = list(aligned["measure"].unique())
    across = min(4, len(measures))
    down = -(-len(measures) // across)
    names = list(dict.fromkeys([*aligned["a"], *aligned["b"]]))
    size = 1.6 + 0.55 * len(names)
    figure = Figure(figsize=(across * size, down * size), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    for ax in axes.flat[len(measures) :]:
        ax.set_visible(False)
    for ax, measure in zip(axes.flat, measures, strict=False):
        scores = matrix(aligned, measure, names)
        image = ax.imshow(scores, cmap="viridis", vmin=0, vmax=1)
        ax.set_title(measure, fontsize=10)
        ax.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
        ax.set_yticks(range(len(names)), names, fontsize=7)
        for (i, j), score in np.ndenumerate(scores):
            if np.isfinite(score):
                ink = "black" if score > 0.6 else "white"
                ax.text(j, i, f"{score:.2f}", ha="center", va="center", fontsize=7, color=ink)
    figure.colorbar(image, ax=axes, label="calibrated: 0 as shuffled, 1 the same", shrink=0.7)
    figure.savefig(path, dpi=150)


def matrix(aligned: pd.DataFrame, measure: str, names: list[str]) -> np.ndarray:
    """(n, n) calibrated scores, NaN on the diagonal; a measure without direction fills both."""
    rows = aligned[aligned["measure"] == measure]
    scores = np.full((len(names), len(names)), np.nan)
    place = {name: i for i, name in enumerate(names)}
    for a, b, score in zip(rows["a"], rows["b"], rows["calibrated"], strict=True):
        scores[place[a], place[b]] = score
    return np.where(np.isnan(scores), scores.T, scores)
