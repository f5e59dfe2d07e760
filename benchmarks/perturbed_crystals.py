"""For structure_vectors.py: copies of crystals that are still the same crystal, embedded."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from pymatgen.core.lattice import Lattice
from pymatgen.core.structure import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from platonic_store import Store
from platonic_store.errors import StoreNotFound

Way = Callable[[Structure, np.random.Generator], Structure]


def rattled(stdev: float) -> Way:
    """Every Cartesian coordinate moved by a normal number of this standard deviation, in Å."""

    def way(crystal: Structure, rng: np.random.Generator) -> Structure:
        moved = crystal.cart_coords + rng.normal(0, stdev, (len(crystal), 3))
        return Structure(crystal.lattice, crystal.species, moved, coords_are_cartesian=True)

    return way


def strained(largest: float) -> Way:
    """A random symmetric strain, whose largest principal one is this in size."""

    def way(crystal: Structure, rng: np.random.Generator) -> Structure:
        strain = rng.normal(size=(3, 3))
        strain = strain + strain.T
        strain *= largest / np.abs(np.linalg.eigvalsh(strain)).max()
        lattice = Lattice(crystal.lattice.matrix @ (np.eye(3) + strain))
        return Structure(lattice, crystal.species, crystal.frac_coords)

    return way


def doubled(crystal: Structure, rng: np.random.Generator) -> Structure:
    """A supercell, twice as long along the shortest axis."""
    times = [1, 1, 1]
    times[int(np.argmin(crystal.lattice.abc))] = 2
    longer: Structure = crystal.make_supercell(times, in_place=False)
    return longer


def niggli(crystal: Structure, rng: np.random.Generator) -> Structure:
    """The primitive cell, reduced."""
    reduced: Structure = crystal.get_primitive_structure().get_reduced_structure("niggli")
    return reduced


def conventional(crystal: Structure, rng: np.random.Generator) -> Structure:
    """The conventional cell."""
    found: Structure = SpacegroupAnalyzer(crystal).get_conventional_standard_structure()
    return found


WAYS: dict[str, Way] = {
    "rattle 0.05 Å": rattled(0.05),
    "rattle 0.1 Å": rattled(0.1),
    "strain 2 %": strained(0.02),
    "strain 5 %": strained(0.05),
    "supercell": doubled,
    "Niggli cell": niggli,
    "conventional cell": conventional,
}


def perturbed(originals: dict[str, Structure], seed: int) -> dict[str, Structure]:
    """Each crystal in each way, under the id `ID|WAY`."""
    rng = np.random.default_rng(seed)
    return {
        f"{id}|{name}": way(crystal, rng)
        for id, crystal in originals.items()
        for name, way in WAYS.items()
    }


def embedded(folder: str, originals: dict[str, Structure], models: list[str], seed: int) -> Store:
    """A scratch store of the copies, embedded by some models; one that is there is kept."""
    store = Store.open(folder)
    try:
        known = set(store.snapshot().models)
    except StoreNotFound:
        store.ingest(perturbed(originals, seed))
        known = set()
    for model in models:
        if model not in known:
            store.ingest(models=[model])
    return store


def origins(ids: pd.Series) -> pd.DataFrame:
    """The original and the way of each copy."""
    found: pd.DataFrame = ids.str.rsplit("|", n=1, expand=True)
    return found.set_axis(["original", "way"], axis=1)
