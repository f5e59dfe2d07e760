"""Where Orb's package and we draw other edges, an independent list of neighbours decides."""

import json
import subprocess

import pytest

from platonic_store import resources
from platonic_store.runtimes.preparation import prepare

# One atom in two bases of one lattice; its neighbours within 6 Å by ASE, by us, by the package.
COUNT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from ingest.families import Structure, part
from orb_models.forcefield.atomic_system import SystemConfig, ase_atoms_to_atom_graphs

build = part(json.loads(sys.argv[2]), "adapter").build_graph
config = SystemConfig(radius=6.0, max_num_neighbors=120)
lattice = np.array([[0, 2.2, 2.2], [2.2, 0, 2.2], [2.2, 2.2, 0]])
found = []
for basis in (np.eye(3), np.array([[1, 3, 0], [0, 1, 0], [0, 0, 1]])):
    atoms = Atoms("Na", cell=basis @ lattice, pbc=True)
    ours = build(Structure("", atoms.numbers, atoms.positions, atoms.cell[:], atoms.pbc), config)
    theirs = ase_atoms_to_atom_graphs(atoms, config, device="cpu")
    found.append([len(neighbor_list("i", atoms, 6.0)), len(ours["senders"]), int(theirs.n_edge)])
print(json.dumps(found))
"""


@pytest.mark.models("orb")
def test_orb_in_an_oblique_cell():
    """docs/families.md tells of it; where the package has mended it, it should not."""
    ((card, python),) = prepare(["control:random:orb-v3-con-omat"])
    root = str(resources.folder("ingest").parent)
    command = [python, "-W", "ignore", "-c", COUNT, root, json.dumps(card.as_dict())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    reduced, oblique = json.loads(done.stdout)
    assert reduced == [42, 42, 42]
    assert oblique == [42, 42, 36]
