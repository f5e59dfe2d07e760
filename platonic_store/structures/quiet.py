"""pymatgen and ASE without their warnings."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Drop warnings in the block, or in a function that this decorates.

    For calls of pymatgen and ASE alone: they warn of what a reader cannot change (helium has no
    electronegativity), and what makes a crystal unusable is checked afterwards.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
