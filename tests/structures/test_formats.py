"""Every format, written by pymatgen or ASE and read back."""

import gzip
import json
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from pymatgen.entries.computed_entries import ComputedStructureEntry
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp import Poscar

from platonic_store.errors import UnreadableSource
from platonic_store.structures import STRUCTURE_SCHEMA, read


def table(source, **options) -> list[dict]:
    """All rows, structure and properties together; nothing may be rejected."""
    rows = []
    for batch in read(source, **options):
        assert not batch.rejected
        assert batch.structures.schema == STRUCTURE_SCHEMA
        pairs = zip(batch.structures.to_pylist(), batch.properties.to_pylist(), strict=True)
        rows += [{**properties, **structure} for structure, properties in pairs]
    return rows


def assert_same(row: dict, structure) -> None:
    """Same species, volume and atoms as a periodic set."""
    cell = np.reshape(row["cell"], (3, 3))
    assert np.allclose(
        cell @ cell.T, structure.lattice.matrix @ structure.lattice.matrix.T, atol=1e-3
    )
    fractions = np.reshape(row["positions"], (-1, 3)) @ np.linalg.inv(cell)
    apart = fractions[:, None] - structure.frac_coords[None]
    apart -= np.rint(apart)
    apart = np.linalg.norm(apart @ cell, axis=-1)
    assert row["nsites"] == len(structure)
    assert apart.min(axis=1).max() < 1e-3
    nearest = apart.argmin(axis=1)
    assert sorted(nearest) == list(range(len(structure)))
    assert row["numbers"] == [structure[i].specie.Z for i in nearest]
    assert row["formula"] == structure.reduced_formula


@pytest.mark.parametrize("symprec", [None, 0.01])
def test_cif(tmp_path, crystals, symprec):
    for name, structure in crystals.items():
        CifWriter(structure, symprec=symprec).write_file(tmp_path / f"{name}.cif")
        (row,) = table(tmp_path / f"{name}.cif")
        assert row["id"] == name
        assert_same(row, structure)


def test_cif_from_ase(tmp_path, crystals):
    ase.io.write(tmp_path / "a.cif", AseAtomsAdaptor.get_atoms(crystals["quartz"]))
    assert_same(table(tmp_path / "a.cif")[0], crystals["quartz"])


def test_multi_block_cif_gz(tmp_path, crystals):
    blocks = [str(CifWriter(crystal)) for crystal in crystals.values()]
    journal = "data_global\n_publ_title\n;\ndata_not_a_block\n;\n"
    with gzip.open(tmp_path / "many.cif.gz", "wt") as file:
        file.write(journal + "\n".join(blocks))
    rows = table(tmp_path / "many.cif.gz")
    assert [row["id"] for row in rows] == ["NaCl", "TiO2", "SiO2", "MgAl2O4"]
    for row, structure in zip(rows, crystals.values(), strict=True):
        assert_same(row, structure)


@pytest.mark.parametrize("name", ["POSCAR", "CONTCAR_relaxed", "x.vasp"])
def test_poscar(tmp_path, crystals, name):
    Poscar(crystals["rutile"]).write_file(tmp_path / name)
    (row,) = table(tmp_path / name)
    assert_same(row, crystals["rutile"])
    expected = {"POSCAR": row["content_hash"], "x.vasp": "x"}
    assert row["id"] == expected.get(name, name)


def test_folder_ids_are_relative_paths_in_order(tmp_path, crystals):
    (tmp_path / "b" / "run").mkdir(parents=True)
    Poscar(crystals["rutile"]).write_file(tmp_path / "b" / "run" / "POSCAR")
    CifWriter(crystals["halite"]).write_file(tmp_path / "b" / "salt.cif")
    CifWriter(crystals["quartz"]).write_file(tmp_path / "a.cif")
    (tmp_path / "notes.txt").write_text("not a structure")
    assert [row["id"] for row in table(tmp_path)] == ["a", "b/run", "b/salt"]


@pytest.mark.parametrize("suffix", ["extxyz", "xyz.gz"])
def test_extxyz(tmp_path, crystals, suffix):
    frames = []
    for number, structure in enumerate(crystals.values()):
        atoms = AseAtomsAdaptor.get_atoms(structure)
        atoms.info = {"mptrj_snapshot_id": f"mp-{number}", "step": number, "ok": True}
        forces = np.full((len(atoms), 3), 0.5)
        atoms.calc = SinglePointCalculator(atoms, energy=-1.5, forces=forces)
        frames.append(atoms)
    path = tmp_path / f"frames.{suffix}"
    ase.io.write(path, frames, format="extxyz")
    rows = table(path, batch_size=3)
    assert [row["id"] for row in rows] == ["mp-0", "mp-1", "mp-2", "mp-3"]
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert rows[0]["energy"] == -1.5
    assert rows[0]["ok"] is True
    assert json.loads(rows[0]["forces"])[0] == [0.5, 0.5, 0.5]
    for row, structure in zip(rows, crystals.values(), strict=True):
        assert_same(row, structure)


def test_a_molecule_has_no_symmetry(tmp_path):
    (tmp_path / "water.xyz").write_text("3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n")
    (row,) = table(tmp_path / "water.xyz")
    assert row["pbc"] == [False] * 3
    assert (row["volume"], row["spacegroup"], row["orbits"]) == (None, None, [0, 1, 2])
    assert row["id"] == row["content_hash"]


def test_ase_db(tmp_path, crystals):
    with ase.db.connect(tmp_path / "a.db") as db:
        for name, structure in crystals.items():
            atoms = AseAtomsAdaptor.get_atoms(structure)
            db.write(atoms, material_id=name, gap=1.5, data={"tags": ["x"]})
        db.write(AseAtomsAdaptor.get_atoms(crystals["halite"]))
    rows = table(tmp_path / "a.db")
    assert [row["id"] for row in rows[:4]] == list(crystals)
    assert len(rows[4]["id"]) == 32
    assert rows[0]["gap"] == 1.5
    assert json.loads(rows[0]["tags"]) == ["x"]
    for row, structure in zip(rows, crystals.values(), strict=False):
        assert_same(row, structure)


def test_pymatgen_json(tmp_path, crystals):
    salt = crystals["halite"]
    entry = ComputedStructureEntry(salt, -3.0, entry_id="mp-22862", data={"gap": 5.0})
    document = {"material_id": "mp-1", "structure": salt.as_dict(), "band_gap": 5.0}
    shapes = {
        "one": (salt.as_dict(), "one"),
        "list": ([salt.as_dict()], None),
        "dict": ({"mp-7": salt.as_dict()}, "mp-7"),
        "entry": (entry.as_dict(), "mp-22862"),
        "document": ([document], "mp-1"),
    }
    for name, (content, id) in shapes.items():
        with gzip.open(tmp_path / f"{name}.json.gz", "wt") as file:
            json.dump(content, file)
        (row,) = table(tmp_path / f"{name}.json.gz")
        assert row["id"] == (id or row["content_hash"])
        assert_same(row, salt)
    assert table(tmp_path / "entry.json.gz")[0]["energy"] == -3.0
    assert table(tmp_path / "document.json.gz")[0]["band_gap"] == 5.0


def test_optimade(tmp_path, crystals):
    salt = crystals["halite"]
    attributes = {
        "lattice_vectors": salt.lattice.matrix.tolist(),
        "cartesian_site_positions": salt.cart_coords.tolist(),
        "species_at_sites": [f"{site.specie}1" for site in salt],
        "species": [
            {"name": f"{x}1", "chemical_symbols": [x], "concentration": [1.0]} for x in ("Na", "Cl")
        ],
        "dimension_types": [1, 1, 1],
        "_mp_band_gap": 5.0,
    }
    mixed = {**attributes, "species": [{**attributes["species"][0], "concentration": [0.5]}]}
    data = [
        {"id": "mp-1", "type": "structures", "attributes": attributes},
        {"id": "mp-2", "type": "structures", "attributes": mixed},
    ]
    (tmp_path / "page.json").write_text(json.dumps({"data": data, "meta": {}}))
    (batch,) = read(tmp_path / "page.json")
    assert_same(batch.structures.to_pylist()[0], salt)
    assert batch.properties.to_pylist()[0]["_mp_band_gap"] == 5.0
    assert batch.rejected[0].id == "mp-2"
    assert batch.rejected[0].reason == "disordered: site Na1 has occupancy 0.50"


def frame(crystals) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "material_id": [f"{number:03d}" for number in range(len(crystals))],
            "cif": [str(CifWriter(structure)) for structure in crystals.values()],
            "band_gap": [1, 2.5, None, 0],
            "stable": [True, False, True, True],
            "count": [1, 2, 3, 4],
            "name": list(crystals),
        }
    )


def test_csv(tmp_path, crystals):
    frame(crystals).to_csv(tmp_path / "t.csv.gz")
    batches = list(read(tmp_path / "t.csv.gz", batch_size=3))
    assert [batch.structures.num_rows for batch in batches] == [3, 1]
    schema = batches[0].properties.schema
    assert schema.names == ["id", "index", "material_id", "band_gap", "stable", "count", "name"]
    assert schema.field("band_gap").type == pa.float64()
    assert schema.field("stable").type == pa.bool_()
    assert schema.field("count").type == pa.int64()
    rows = table(tmp_path / "t.csv.gz")
    assert [row["id"] for row in rows] == ["000", "001", "002", "003"]
    assert rows[2]["band_gap"] is None
    for row, structure in zip(rows, crystals.values(), strict=True):
        assert_same(row, structure)


def test_parquet_in_three_forms(tmp_path, crystals):
    cifs = frame(crystals)
    dicts = cifs.drop(columns="cif").assign(structure=[s.to_json() for s in crystals.values()])
    cifs.to_parquet(tmp_path / "cif.parquet")
    dicts.to_parquet(tmp_path / "dict.parquet")
    batches = [batch.structures for batch in read(tmp_path / "cif.parquet")]
    pq.write_table(pa.Table.from_batches(batches), tmp_path / "own.parquet")
    for name in ("cif", "dict", "own"):
        rows = table(tmp_path / f"{name}.parquet")
        assert [row["id"] for row in rows] == ["000", "001", "002", "003"]
        for row, structure in zip(rows, crystals.values(), strict=True):
            assert_same(row, structure)


def test_objects(crystals):
    salt, atoms = crystals["halite"], AseAtomsAdaptor.get_atoms(crystals["rutile"])
    assert_same(table(salt)[0], salt)
    assert_same(table(atoms)[0], crystals["rutile"])
    assert [row["id"] for row in table(crystals)] == list(crystals)
    assert [row["id"] for row in table(iter([("x", salt), ("y", atoms)]))] == ["x", "y"]
    (batch,) = read([salt, "nonsense"])
    assert "str is none of" in batch.rejected[0].reason


def test_content_hash_is_the_same_from_every_exact_form(tmp_path: Path, crystals):
    for structure in crystals.values():
        atoms = AseAtomsAdaptor.get_atoms(structure)
        (tmp_path / "a.json").write_text(structure.to_json())
        with ase.db.connect(tmp_path / "a.db", append=False) as db:
            db.write(atoms)
        sources = [structure, atoms, tmp_path / "a.json", tmp_path / "a.db"]
        assert len({table(source)[0]["content_hash"] for source in sources}) == 1


def test_builtin():
    rows = table("builtin:aflow-prototypes")
    ids = [row["id"] for row in rows]
    assert len(rows) == len(set(ids)) == 288
    assert {"Cinnabar", "Spinel", "Perovskite", "alpha-Ga"} <= set(ids)
    assert rows[ids.index("Spinel")]["spacegroup"] == 227
    assert rows[ids.index("Spinel")]["mineral"] == "Spinel"


def mptrj(crystals) -> dict:
    """Two materials with two frames and one, as MPtrj_2022.9_full.json has them."""

    def frame(structure) -> dict:
        n = len(structure)
        return {
            "structure": structure.as_dict(),
            "uncorrected_total_energy": -27.1,
            "corrected_total_energy": -28.0,
            "energy_per_atom": -3.4,
            "ef_per_atom": -1.2,
            "e_per_atom_relaxed": -3.5,
            "ef_per_atom_relaxed": -1.3,
            "force": [[0.0, 0.1, 0.2]] * n,
            "stress": [[1.0, 0.0, 0.0]] * 3,
            "magmom": [0.1] * n,
            "bandgap": 5.0,
        }

    halite, rutile = crystals["halite"], crystals["rutile"]
    moved = halite.copy().translate_sites([0], [0.01, 0, 0])
    return {
        "mp-22862": {"mp-22862-0-0": frame(halite), "mp-22862-0-1": frame(moved)},
        "mp-2657": {"mp-2657-1-3": frame(rutile)},
    }


def matpes(crystals) -> list[dict]:
    """As MatPES-PBE-2025.2.json has them."""
    return [
        {
            "builder_meta": {"version": "1"},
            "structure": structure.as_dict(),
            "energy": -34.9,
            "forces": [[0.1, 0.2, 0.3]] * len(structure),
            "stress": [0.1] * 6,
            "matpes_id": f"matpes-20240214_{number}_38",
            "bandgap": 0.0,
            "functional": "r2SCAN",
            "formation_energy_per_atom": None,
            "bader_charges": [8.0] * len(structure),
            "provenance": {"original_mp_id": "mp-1", "md_step": 726},
        }
        for number, structure in enumerate(crystals.values())
    ]


@pytest.mark.parametrize("name", ["MPtrj.json", "MPtrj.json.gz"])
@pytest.mark.parametrize("indent", [None, 1])
def test_mptrj(tmp_path, crystals, name, indent, monkeypatch):
    monkeypatch.setattr("platonic_store.structures.frames._READ", 700)  # less than a frame
    text = json.dumps(mptrj(crystals), indent=indent).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    rows = table(tmp_path / name)
    assert [row["id"] for row in rows] == ["mp-22862-0-0", "mp-22862-0-1", "mp-2657-1-3"]
    assert [row["mp_id"] for row in rows] == ["mp-22862", "mp-22862", "mp-2657"]
    assert (rows[0]["corrected_total_energy"], rows[0]["bandgap"]) == (-28.0, 5.0)
    assert not {"force", "stress", "magmom"} & set(rows[0])
    assert_same(rows[0], crystals["halite"])
    assert_same(rows[2], crystals["rutile"])


@pytest.mark.parametrize(
    "name", ["MatPES.json", "MatPES.json.gz", "a.jsonl", "b.jsonl.gz", "c.json"]
)
def test_matpes(tmp_path, crystals, name):
    documents = matpes(crystals)
    text = json.dumps(documents)
    if not name.startswith("MatPES"):
        text = "\n".join(map(json.dumps, documents)) + "\n"
    data = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    rows = table(tmp_path / name)
    assert [row["id"] for row in rows] == [one["matpes_id"] for one in documents]
    assert (rows[1]["energy"], rows[1]["functional"]) == (-34.9, "r2SCAN")
    assert not {"forces", "provenance", "bader_charges"} & set(rows[0])
    for row, structure in zip(rows, crystals.values(), strict=True):
        assert_same(row, structure)


def test_a_frame_without_a_structure_and_a_file_that_ends(tmp_path, crystals):
    document = mptrj(crystals)
    del document["mp-2657"]["mp-2657-1-3"]["structure"]
    text = json.dumps(document)
    (tmp_path / "a.json").write_text(text)
    (batch,) = read(tmp_path / "a.json")
    assert len(batch.structures) == 2
    assert batch.rejected[0].id == "mp-2657-1-3"
    (tmp_path / "b.json").write_text(text[: text.index('"mp-2657"') + 200])
    batches = read(tmp_path / "b.json")
    assert len(next(batches).structures) == 2
    with pytest.raises(UnreadableSource, match="truncated after record 2"):
        next(batches)


def test_aselmdb(tmp_path, crystals):
    pytest.importorskip("ase_db_backends")
    with ase.db.connect(tmp_path / "val.aselmdb", type="aselmdb") as database:
        for name, structure in crystals.items():
            atoms = AseAtomsAdaptor.get_atoms(structure)
            forces = np.zeros((len(atoms), 3))
            atoms.calc = SinglePointCalculator(atoms, energy=-3.0, forces=forces, stress=[0.0] * 6)
            database.write(atoms, data={"sid": f"agm-{name}", "calc_id": 1, "matrix": [1, 2]})
    rows = table(tmp_path / "val.aselmdb")
    assert [row["id"] for row in rows] == [f"agm-{name}" for name in crystals]
    assert (rows[0]["energy"], rows[0]["calc_id"]) == (-3.0, 1)
    assert not {"forces", "stress", "matrix"} & set(rows[0])
    for row, structure in zip(rows, crystals.values(), strict=True):
        assert_same(row, structure)
