"""Plots in one style. Colours of text and rules are the page's: it has a light and a dark side."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import pandas as pd

from platonic_store.plots.labels import is_control, label

# Okabe and Ito's colours, which everyone can tell apart, in an order of contrast.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
CONTROL = "#999999"


def colours_of(sides: Sequence[str]) -> list[str]:
    """A colour for each trained model, one grey for all controls."""
    colours = cycle(COLOURS)
    return [CONTROL if is_control(side) else next(colours) for side in sides]


def legend_of(sides: Sequence[str]) -> dict[str, str]:
    """The trained models' colours, and one entry for the controls."""
    pairs = list(zip(sides, colours_of(sides), strict=True))
    return {"controls" if is_control(side) else label(side): colour for side, colour in pairs}


def panels(
    frames: dict[str, pd.DataFrame], *, colours: list[str], hover: list[str], x: str, y: str
) -> Any:
    """A scatter of (x, y) a frame, all on the same axes and with the same rows."""
    from plotly.subplots import make_subplots

    columns = 2 if len(frames) in (2, 4) else min(3, len(frames))
    rows = -(-len(frames) // columns)
    height = (420 if columns < 3 else 300) * rows + 60
    figure = make_subplots(
        rows,
        columns,
        shared_xaxes="all",
        shared_yaxes="all",
        subplot_titles=list(frames),
        horizontal_spacing=0.03,
        vertical_spacing=46 / height,
    )
    for i, frame in enumerate(frames.values()):
        figure.add_scatter(
            x=frame["x"],
            y=frame["y"],
            mode="markers",
            marker={"size": 5, "opacity": 0.8, "color": colours},
            text=hover,
            hoverinfo="text",
            row=i // columns + 1,
            col=i % columns + 1,
        )
    for column in range(1, columns + 1):
        # The lowest panel of a column carries the axis, also where the last row is not full.
        lowest = rows - (column > len(frames) - columns * (rows - 1))
        figure.update_xaxes(title=x, showticklabels=True, title_standoff=4, row=lowest, col=column)
    figure.update_yaxes(title=y, col=1)
    return _styled(figure, height)


def heat(matrix: pd.DataFrame, *, title: str, low: float = 0) -> Any:
    """A matrix of numbers up to 1, which are written in; NaN stays empty."""
    import plotly.graph_objects as go

    figure = go.Figure(
        go.Heatmap(
            z=matrix,
            x=list(matrix.columns),
            y=list(matrix.index),
            zmin=low,
            zmax=1,
            colorscale="Viridis",
            texttemplate="%{z:.2f}",
            hovertemplate="%{y}<br>%{x}<br>%{z:.3f}<extra></extra>",
            hoverongaps=False,
            xgap=2,
            ygap=2,
            colorbar={
                "title": {"text": title, "side": "right"},
                "thickness": 12,
                "outlinewidth": 0,
            },
        )
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(tickangle=-40)
    figure.update_layout(xaxis_showgrid=False, yaxis_showgrid=False)
    return _styled(figure, height=170 + 42 * len(matrix))


def periodic(values: pd.Series, *, title: str, low: float, high: float) -> Any:
    """The periodic table, coloured by a value for each element symbol."""
    import numpy as np
    import plotly.graph_objects as go
    from pymatgen.core import Element

    z, text = np.full((9, 18), np.nan), np.full((9, 18), "", dtype=object)
    for element in Element:
        is_f_block = element.is_lanthanoid or element.is_actinoid
        row = element.row + (1 if is_f_block else -1)
        column = (element.Z - 57) % 32 + 2 if is_f_block else element.group - 1
        if element.Z <= 94:
            text[row, column] = element.symbol
            z[row, column] = values.get(element.symbol, np.nan)
    figure = go.Figure(
        go.Heatmap(
            z=z,
            text=text,
            zmin=low,
            zmax=1,
            colorscale="Viridis",
            texttemplate="%{text}",
            hovertemplate="%{text}: %{z:.3f}<extra></extra>",
            hoverongaps=False,
            xgap=2,
            ygap=2,
            colorbar={"title": {"text": title, "side": "right"}, "thickness": 12},
        )
    )
    figure.update_yaxes(autorange="reversed", visible=False)
    figure.update_xaxes(visible=False)
    return _styled(figure, height=420)


def dots(
    frame: pd.DataFrame,
    *,
    value: str,
    name: str,
    series: str,
    colours: dict[str, str],
    title: str,
    interval: tuple[str, str] | None = None,
    range: tuple[float, float] | None = None,
) -> Any:
    """A row a name, a dot a series, with its interval where the frame has one."""
    import plotly.graph_objects as go

    figure = go.Figure()
    names = list(dict.fromkeys(frame[name]))
    for key, colour in colours.items():
        rows = frame[frame[series] == key]
        bars = None
        if interval is not None:
            low, high = (rows[column] for column in interval)
            bars = {
                "type": "data",
                "array": high - rows[value],
                "arrayminus": rows[value] - low,
                "thickness": 1.5,
                "width": 0,
            }
        figure.add_scatter(
            x=rows[value],
            y=rows[name],
            error_x=bars,
            mode="markers",
            marker={"size": 10, "color": colour},
            hovertemplate=f"%{{y}}<br>{key}: %{{x:.3f}}<extra></extra>",
        )
    figure.update_yaxes(categoryorder="array", categoryarray=names[::-1], type="category")
    figure.update_xaxes(title=title, title_standoff=10, range=range)
    return _styled(figure, height=110 + 30 * len(names))


def steps(values: dict[str, pd.Series], *, colours: list[str], title: str) -> Any:
    """The distribution of each series over the same 60 bins, as a line of steps."""
    import numpy as np
    import plotly.graph_objects as go

    everything = np.concatenate([series.to_numpy() for series in values.values()])
    edges = np.linspace(everything.min(), everything.max(), 61)
    figure = go.Figure()
    for (name, series), colour in zip(values.items(), colours, strict=True):
        share = np.histogram(series, edges)[0] / len(series)
        figure.add_scatter(
            x=edges[:-1],
            y=share,
            mode="lines",
            line={"shape": "hv", "width": 2, "color": colour},
            name=name,
            hovertemplate=f"{name}<br>%{{x:.3g}}: %{{y:.1%}}<extra></extra>",
        )
    figure.update_xaxes(title=title)
    figure.update_yaxes(title="share", tickformat=".0%", rangemode="tozero")
    return _styled(figure, height=360)


def _styled(figure: Any, height: int) -> Any:
    figure.update_layout(
        height=height,
        showlegend=False,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        font={"size": 13},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hoverlabel={"align": "left"},
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    figure.update_annotations(font_size=14)
    return figure


def wide(
    frame: pd.DataFrame, index: str, columns: str, values: str, order: list[str]
) -> pd.DataFrame:
    """A long frame as a matrix, rows and columns in the order given."""
    matrix = frame.pivot(index=index, columns=columns, values=values)
    return matrix.reindex(index=order, columns=order)
