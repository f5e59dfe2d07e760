"""From sections to HTML: one file that needs nothing else, not even a network."""

import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from platonic_store.report.study import Section, Study


def render(
    study: Study,
    sections: list[Section],
    timing: pd.DataFrame,
    folder: str,
    files: list[tuple[str, int]],
) -> str:
    """The page; everything that came from the store is escaped."""
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"plot": _plot, "cell": cell, "columns": _columns, "code": _code}
    return environment.get_template("page.html.j2").render(
        study=study,
        sections=sections,
        findings=[(section, line) for section in sections for line in section.findings],
        timing=timing,
        seconds=timing["seconds"].sum(),
        folder=folder,
        files=files,
        version=version("platonic-store"),
        today=f"{datetime.now(UTC):%-d %B %Y, %H:%M} UTC",
        plotly=Markup(get_plotlyjs()),
    )


def cell(value: Any) -> str:
    """A table's cell as text."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return " ".join(map(cell, value))
    if value is None or value != value:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if isinstance(value, float):
        # Three decimals compare well down a column.
        if abs(value) >= 1000:
            text = f"{value:,.0f}"
        elif 0 < abs(value) < 0.001:
            text = f"{value:.1e}".replace("e-0", "e-")
        else:
            text = f"{value:.3f}"
        return text.replace("-", "−")
    return str(value)


class _Column(NamedTuple):
    name: str
    is_number: bool


def _columns(frame: pd.DataFrame) -> list[_Column]:
    return [_Column(str(name), frame[name].dtype.kind in "iuf") for name in frame.columns]


def _code(text: str) -> Markup:
    """Escaped text in which `commands` are set as code."""
    parts = [Markup.escape(part) for part in text.split("`")]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts)
    )


def _plot(figure: Any) -> Markup:
    """A figure's JSON, safe inside a <script> element."""
    plain = json.loads(figure.to_json())
    plain.get("layout", {}).pop("template", None)
    text = json.dumps(plain, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
