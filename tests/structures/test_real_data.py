"""The data sets that people use, against the parsers that they trust."""

import subprocess
import sys
from itertools import islice

import numpy as np
import pandas as pd
import pytest
from pymatgen.io.cif import CifParser

from platonic_store.structures import cif, read


def test_import_is_cheap():
    code = (
        "import sys, platonic_store.structures\n"
        "heavy = {'pymatgen', 'ase', 'pandas', 'scipy', 'gemmi', 'moyopy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_mp20_reads_in_order(shared_data):
    """The first 1,000 crystals, in batches."""
    path = shared_data / "mp20_val_biternary.csv.gz"
    expected = pd.read_csv(path, nrows=1000)
    batches = list(islice(read(path, batch_size=250), 4))
    assert not [rejected for batch in batches for rejected in batch.rejected]
    ids = [id for batch in batches for id in batch.structures["id"].to_pylist()]
    assert ids == expected["material_id"].tolist()
    gaps = [gap for batch in batches for gap in batch.properties["band_gap"].to_pylist()]
    assert np.allclose(gaps, expected["band_gap"])
    groups = [n for batch in batches for n in batch.structures["spacegroup"].to_pylist()]
    assert np.mean(np.array(groups) == expected["spacegroup.number"]) > 0.95


def test_gemmi_agrees_with_pymatgen(shared_data):
    """Every 30th CIF; all 7,140 were compared once when the reader was written."""
    for text in pd.read_csv(shared_data / "mp20_val_biternary.csv.gz")["cif"][::30]:
        ours = cif.parse(text)
        (theirs,) = CifParser.from_str(text, frac_tolerance=0).parse_structures(primitive=False)
        assert np.allclose(ours.cell, theirs.lattice.matrix, atol=1e-9)
        apart = (ours.positions @ np.linalg.inv(ours.cell))[:, None] - theirs.frac_coords[None]
        distances = np.linalg.norm((apart - np.rint(apart)) @ ours.cell, axis=-1)
        nearest = distances.argmin(axis=1)
        assert distances.min(axis=1).max() < 1e-6
        assert sorted(nearest) == list(range(len(theirs)))
        assert ours.numbers.tolist() == [theirs[i].specie.Z for i in nearest]


def test_perov5_and_mptrj(shared_data):
    (batch,) = islice(read(shared_data / "perov5_val.csv.gz", batch_size=100), 1)
    assert batch.structures.num_rows == 100
    assert batch.properties["material_id"].to_pylist()[0] == "18517"
    (batch,) = islice(read(shared_data / "mptrj_random_1k.extxyz.gz", batch_size=50), 1)
    assert batch.structures["id"].to_pylist()[0] == "mp-1080834-0-1"
    assert batch.properties["energy"].to_pylist()[0] == pytest.approx(-28.75765745)
