"""Real crystals, and where the data sets that are not part of the repository lie."""

import os
from pathlib import Path

import pytest
from pymatgen.core import Lattice, Structure


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared data sets: PLATONIC_SHARED, else `../shared` beside the repository."""
    beside = Path(__file__).resolve().parents[3] / "shared"
    folder = Path(os.environ.get("PLATONIC_SHARED", beside)) / "data"
    if not folder.is_dir():
        pytest.skip("no shared data; point PLATONIC_SHARED at the folder that holds data/")
    return folder


@pytest.fixture(scope="session")
def crystals() -> dict[str, Structure]:
    """Four structures with sites on special and general positions, in several lattices."""
    halite = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0] * 3, [0.5] * 3]
    )
    rutile = Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0] * 3, [0.3053, 0.3053, 0]]
    )
    quartz = Structure.from_spacegroup(
        "P3_221",
        Lattice.hexagonal(4.913, 5.405),
        ["Si", "O"],
        [[0.4697, 0, 2 / 3], [0.4133, 0.2672, 0.7854]],
    )
    spinel = Structure.from_spacegroup(
        "Fd-3m", Lattice.cubic(8.083), ["Mg", "Al", "O"], [[0] * 3, [0.625] * 3, [0.3874] * 3]
    )
    return {"halite": halite, "rutile": rutile, "quartz": quartz, "spinel": spinel}
