"""Sets of layers: what a space may take of a model, written `sevennet-0@0+1`.

A set has a number, so that what names a layer names a set too: a layer's own index, and of several
layers minus the sum of their powers of two, -3 for 0 and 1.
"""

import re
from collections.abc import Iterable


def number_of(layers: Iterable[int]) -> int:
    """The number of a set. Raises: ValueError if it is empty."""
    known = sorted({*layers})
    if not known:
        raise ValueError("no layers")
    return known[0] if len(known) == 1 else -sum(1 << layer for layer in known)


def layers_of(number: int) -> tuple[int, ...]:
    """The layers of a set, in order."""
    if number >= 0:
        return (number,)
    return tuple(layer for layer in range((-number).bit_length()) if -number >> layer & 1)


def text_of(number: int) -> str:
    """`0+1`."""
    return "+".join(map(str, layers_of(number)))


def read(text: str) -> int | None:
    """The number of the set that a text names; None if it is no text of a set.

    In a URL's query a plus sign that nobody has escaped is a space.
    """
    if not re.fullmatch(r"\d{1,2}([+ ]\d{1,2})*", text):
        return None
    return number_of(map(int, re.split("[+ ]", text)))
