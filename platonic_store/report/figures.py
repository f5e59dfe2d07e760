"""Plots in one style. Colours of text and rules are the page's: it has a light and a dark side."""

from typing import Any

import pandas as pd

# Okabe and Ito's colours, which everyone can tell apart, in an order of contrast.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999"]
CONTROL = "#999999"


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
    figure.update_xaxes(title=x, row=rows)
    figure.update_yaxes(title=y, col=1)
    return _styled(figure, height)


def heat(
    matrix: pd.DataFrame, *, title: str, low: float = 0, high: float = 1, text: str = ".2f"
) -> Any:
    """A matrix with its numbers written in; NaN stays empty."""
    import plotly.graph_objects as go

    figure = go.Figure(
        go.Heatmap(
            z=matrix,
            x=list(matrix.columns),
            y=list(matrix.index),
            zmin=low,
            zmax=high,
            colorscale="Cividis",
            texttemplate=f"%{{z:{text}}}",
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
