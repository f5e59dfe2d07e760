"""How figures and tables name models, and which of them are controls."""

import pandas as pd

from platonic_store.runtimes.cards import kind_of
from platonic_store.storage.snapshot import ModelLayer


def is_control(side: ModelLayer | str) -> bool:
    """Whether a side is a control: composition, SOAP or random weights."""
    return kind_of(str(side).partition("@")[0]) == "control"


def label(side: ModelLayer | str) -> str:
    """A side as a figure names it: `control:random:x@1` is random x@1."""
    return str(side).removeprefix("control:").replace("random:", "random ")


def controls_among(frame: pd.DataFrame, a: str, b: str) -> pd.Series:
    """For each row of a frame of pairs, how many of the two sides are controls: 0, 1 or 2."""
    return frame[a].map(is_control).astype(int) + frame[b].map(is_control).astype(int)
