"""Coverage: how far an atom is from the nearest atom of a training set, and whether that is far.

The distance is 1 - cosine to the nearest training atom of the same element. What is far differs
from element to element, so a calibration tells how far the training set's own atoms are from those
of other compositions.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from platonic_store.geometry.typicality import (
    FEWEST_OF_CLASS,
    RESOLUTION,
    Atoms,
    conformal_p,
    conformal_p_by_class,
    neighbourhoods,
)

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


class Scale(NamedTuple):
    """How far atoms of compositions that are not in a training set are from it.

    atoms: (n,) as `Nearest.far`; elements: (n,) their atomic numbers. structures: (m,) of each
    structure the largest strangeness of an atom.
    """

    structures: Floats
    atoms: Floats
    elements: Indices


class Nearest(NamedTuple):
    """The nearest known atom of each of n atoms.

    row: (n,) of the known atoms. distance: (n,) 1 - cosine to it. far: (n,) the same, but infinite
    where no atom of the element is known, so that the nearest is of another one.
    """

    row: Indices
    distance: Floats
    far: Floats


def nearest_known(atoms: Atoms, known: Atoms, *, elsewhere: bool = False) -> Nearest:
    """The nearest known atom of each atom. elsewhere: in another composition.

    Raises:
        ValueError: no known atoms.
    """
    if not elsewhere:
        atoms = atoms._replace(groups=np.zeros_like(atoms.groups))
        known = known._replace(groups=np.ones_like(known.groups))
    row, distance = np.full(len(atoms.vectors), -1), np.empty(len(atoms.vectors))
    for rows, index, found in neighbourhoods(atoms, known, 1, fewest=1):
        row[rows], distance[rows] = index[:, 0], found[:, 0]
    is_same = known.elements[row] == atoms.elements
    return Nearest(row, distance, np.where(is_same, distance, np.inf))


def strangeness(far: Floats, elements: NDArray[np.integer[Any]], scale: Scale) -> Floats:
    """Distances over the median distance of the element in the calibration, (n,).

    With fewer than `FEWEST_OF_CLASS` of an element over that of all.
    """
    is_finite = np.isfinite(scale.atoms)
    usual = np.full(len(far), np.median(scale.atoms[is_finite]) if is_finite.any() else 1.0)
    for element in np.unique(elements):
        own = scale.atoms[is_finite & (scale.elements == element)]
        if len(own) >= FEWEST_OF_CLASS:
            usual[elements == element] = np.median(own)
    result: Floats = far / np.maximum(usual, RESOLUTION)
    return result


def scale_of(
    far: Floats, elements: NDArray[np.integer[Any]], owner: NDArray[np.integer[Any]]
) -> Scale:
    """The scale that atoms of a calibration set. owner: (n,) which structure each is of."""
    scale = Scale(np.empty(0), far, np.asarray(elements, dtype=np.int64))
    _, place = np.unique(owner, return_inverse=True)
    strangest = np.full(place.max(initial=-1) + 1, -np.inf)
    np.maximum.at(strangest, place, strangeness(far, elements, scale))
    return scale._replace(structures=strangest)


def p_of_atoms(far: Floats, elements: NDArray[np.integer[Any]], scale: Scale) -> Floats:
    """Conformal p of atoms, within their element where the calibration has enough of it."""
    return conformal_p_by_class(far, elements, scale.atoms, scale.elements)


def p_of_structures(strangest: Floats, scale: Scale) -> Floats:
    """Conformal p of structures by the strangeness of their strangest atoms."""
    return conformal_p(strangest, scale.structures)
