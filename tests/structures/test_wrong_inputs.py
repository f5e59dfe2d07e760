"""What is refused, and what stops: each with its reason, and nothing else lost."""

import gzip
import json
from collections import deque
from unittest.mock import patch

import ase.io
import numpy as np
import pandas as pd
import pytest
from cifs import cif
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import DummySpecies, Element, Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifWriter

from platonic_store.errors import UnreadableSource, worded
from platonic_store.structures import Crystal, checks, content_hash, read
from platonic_store.structures.assemble import _composition
from platonic_store.structures.checks import fault, symmetry


def one(tmp_path, sites: str, symmetry: str = "") -> tuple[dict | None, str | None]:
    """The row, or the reason why there is none."""
    path = tmp_path / "x.cif"
    path.write_text(cif(sites, symmetry=symmetry))
    (batch,) = read(path)
    rows = batch.structures.to_pylist()
    return (rows[0], None) if rows else (None, batch.rejected[0].reason)


def test_oxidation_states_and_deuterium(tmp_path):
    row, _ = one(tmp_path, "Fe1 Fe3+ 0 0 0 1\nO1 O2- .5 .5(2) .5 .\nD1 D 0 0 .5 1")
    assert row["numbers"] == [26, 8, 1]


@pytest.mark.parametrize(
    ("sites", "reason"),
    [
        ("Fe1 Fe 0 0 0 0.5", "disordered: site Fe1 has occupancy 0.50"),
        ("Fe1 Fe 0 0 0 0.5\nNi1 Ni 0 0 0 0.5", "disordered: site Fe1 has occupancy 0.50"),
        ("Fe1 Fe 0 0 0 1\nNi1 Ni 0 0 0.9999 1", "overlapping atoms"),
        ("Q1 X 0 0 0 1", "unknown element 'X'"),
        ("W1 Wat 0 0 0 1", "unknown element 'Wat'"),
        ("Fe1 Fe ? 0 0 1", "NaN"),
        ("Fe1 Fe 0 0", "Wrong number of values"),
    ],
)
def test_refused_cif(tmp_path, sites, reason):
    row, given_reason = one(tmp_path, sites)
    assert row is None
    assert reason.lower() in given_reason.lower()
    assert "\n" not in given_reason


def test_symmetry_by_name_number_and_unknown(tmp_path):
    sites = "Na1 Na 0 0 0 1\nCl1 Cl .5 .5 .5 1"
    name = "_symmetry_space_group_name_H-M 'F m -3 m'"
    assert one(tmp_path, sites, name)[0]["nsites"] == 8
    assert one(tmp_path, sites, "_symmetry_Int_Tables_number 225")[0]["nsites"] == 8
    assert "unknown space group" in one(tmp_path, sites, "_space_group_name_H-M_alt 'Q z 3'")[1]


def test_operations_come_before_the_name(tmp_path):
    lines = "_space_group_name_H-M_alt 'F m -3 m'\nloop_\n_space_group_symop_operation_xyz\n'x,y,z'"
    assert one(tmp_path, "Na1 Na 0 0 0 1", lines)[0]["nsites"] == 1


def test_rounded_special_positions_are_one_atom(tmp_path):
    row, _ = one(tmp_path, "Si1 Si 0.3333 0.3334 0.3333 1", "_symmetry_Int_Tables_number 166")
    assert row is not None
    name = "_symmetry_space_group_name_H-M 'P -4 3 m'"
    assert one(tmp_path, "Si1 Si 0.3333 0.3333 0.3334 1", name)[0]["nsites"] == 4


def cube(numbers, positions, cell=5.0, pbc=True) -> Crystal:
    box = np.eye(3) * cell if np.isscalar(cell) else np.asarray(cell, float)
    places = np.asarray(positions, float).reshape(-1, 3)
    return Crystal(None, np.asarray(numbers, np.int16), places, box, np.full(3, pbc), {})


@pytest.mark.parametrize(
    ("crystal", "reason"),
    [
        (cube([], []), "no atoms"),
        (cube([1], [[np.nan, 0, 0]]), "NaN or infinite positions"),
        (cube([1], [[0, 0, 0]], np.diag([np.inf, 1, 1])), "NaN or infinite cell"),
        (cube([1], [[0, 0, 0]], np.diag([5, 5, 0])), "no volume"),
        (cube([0], [[0, 0, 0]]), "unknown element"),
        (cube([200], [[0, 0, 0]]), "unknown element"),
        (cube([1, 1], [[0.01, 0, 0], [4.99, 5, -5]]), "overlapping atoms: sites 0 and 1"),
        (cube([1, 1], [[0, 0, 0], [0, 0, 0.05]], 0.0, pbc=False), "overlapping"),
    ],
)
def test_faults(crystal, reason):
    assert reason in fault(crystal)


def test_no_fault():
    assert fault(cube([1, 1], [[0, 0, 0], [4.8, 0, 0]])) is None
    assert fault(cube([1, 1], [[0.01, 0, 0], [4.99, 0, 0]], pbc=False)) is None
    assert fault(cube([1, 1], [[0, 0, 0], [0, 0, 0.75]], 0.0, pbc=False)) is None
    skewed = [[3, 0, 0], [300, 3, 0], [0, 0, 3]]
    assert fault(cube([1], [[0, 0, 0]], skewed)) is None
    assert "overlapping" in fault(cube([1, 1], [[0, 0, 0], [303.02, 3, 0]], skewed))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(-4, 4), min_size=3, max_size=3),
    st.floats(0.001, 0.09) | st.floats(0.11, 1.0),
    st.floats(-0.45, 0.45),
    st.sampled_from([0, checks.FEW]),
)
def test_overlap_is_found_across_any_image_of_few_and_of_many_atoms(image, gap, shear, few):
    cell = np.array([[4.0, 0, 0], [4 * shear, 5, 0], [4 * shear, 5 * shear, 6]])
    positions = [[0.02, 0, 0], np.array([0.02 - gap, 0, 0]) + image @ cell]
    with patch.object(checks, "FEW", few):
        assert (fault(cube([6, 8], positions, cell)) is None) == (gap > 0.1)


def test_hash_knows_content_only():
    base = cube([1, 8], [[0, 0, 0], [1, 1, 1]])
    assert content_hash(base) == content_hash(base._replace(id="x", properties={"a": 1}))
    assert content_hash(base) == content_hash(base._replace(positions=base.positions - 1e-7))
    assert content_hash(base) != content_hash(base._replace(positions=base.positions + 1e-4))
    assert content_hash(base) != content_hash(base._replace(pbc=np.array([True, True, False])))


def test_orbits_see_through_a_supercell(crystals):
    perovskite = Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(3.9), ["Sr", "Ti", "O"], [[0] * 3, [0.5] * 3, [0.5, 0.5, 0]]
    )
    long = perovskite * (2, 1, 1)
    (batch,) = read(long)
    (row,) = batch.structures.to_pylist()
    oxygens = {o for o, z in zip(row["orbits"], row["numbers"], strict=True) if z == 8}
    assert row["spacegroup"] == 221
    assert oxygens == {row["numbers"].index(8)}


def test_left_handed_cell_keeps_its_symmetry(crystals):
    salt = crystals["halite"]
    mirrored = cube(
        salt.atomic_numbers, salt.cart_coords * [-1, 1, 1], np.diag([-5.64, 5.64, 5.64])
    )
    assert symmetry(mirrored)[0] == 225


def test_disordered_and_dummy_objects(crystals):
    half = Structure(Lattice.cubic(3), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]])
    vacant = Structure(Lattice.cubic(3), [{"Fe": 0.9}], [[0, 0, 0]])
    dummy = Structure(Lattice.cubic(3), [DummySpecies("X")], [[0, 0, 0]])
    (batch,) = read({"a": half, "b": vacant, "c": dummy, "d": crystals["halite"]})
    assert batch.structures["id"].to_pylist() == ["d"]
    assert [rejected.reason for rejected in batch.rejected] == [
        "disordered: site Fe0 has occupancy 0.50",
        "disordered: site Fe0 has occupancy 0.90",
        "unknown element 'X' at site 0",
    ]


def test_disorder_that_ase_hides(tmp_path):
    (tmp_path / "x.cif").write_text(cif("Fe1 Fe 0 0 0 0.5\nO1 O .5 0 0 1"))
    (batch,) = read(ase.io.read(tmp_path / "x.cif"))
    assert batch.rejected[0].reason == "disordered: site Fe has occupancy 0.50"


def stops(source, **options) -> str:
    """The error's message and hint, in one line."""
    with pytest.raises(UnreadableSource) as caught:
        list(read(source, **options))
    assert caught.value.hint
    text = f"{caught.value}: {worded(caught.value.hint)}"
    assert "\n" not in text
    return text


def test_sources_that_stop(tmp_path):
    assert "does not exist" in stops(tmp_path / "nothing.cif")
    for name in ("a.cif", "a.csv", "a.extxyz", "a.json", "a.db", "a.parquet", "POSCAR"):
        (tmp_path / name).touch()
        assert "is empty" in stops(tmp_path / name)
    (tmp_path / "a.docx").write_text("x")
    assert "cannot be told from its name: name its format: one of cif, " in stops(
        tmp_path / "a.docx"
    )
    assert "unknown format 'doc': name its format" in stops(tmp_path / "a.docx", format="doc")
    (tmp_path / "t.csv").write_text("material_id,structure\n1,2\n")
    assert "material_id, structure" in stops(tmp_path / "t.csv")
    (tmp_path / "header.csv").write_text("material_id,cif\n")
    assert "has no records" in stops(tmp_path / "header.csv")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "notes.txt").write_text("x")
    assert "no readable file" in stops(tmp_path / "sub")
    assert "aflow-prototypes" in stops("builtin:other")


def test_content_that_is_not_what_the_name_says(tmp_path):
    for name in ("a.db", "a.parquet", "a.json", "a.csv.gz", "a.extxyz"):
        (tmp_path / name).write_text("this is prose\n" * 20)
        assert str(tmp_path / name) in stops(tmp_path / name)
    for name in ("a.cif", "POSCAR"):
        (tmp_path / name).write_text("this is prose\n" * 20)
        (batch,) = read(tmp_path / name)
        assert len(batch.rejected) == 1


@pytest.fixture
def long_csv(tmp_path, crystals):
    cifs = [str(CifWriter(structure)) for structure in crystals.values()] * 40
    noise = np.random.default_rng(0).random(len(cifs))
    table = pd.DataFrame({"id": [f"s{i}" for i in range(len(cifs))], "x": noise, "cif": cifs})
    table.to_csv(tmp_path / "long.csv.gz", index=False)
    return tmp_path / "long.csv.gz"


def test_truncated_gzip_gives_all_that_it_has(long_csv):
    whole = [id for batch in read(long_csv) for id in batch.structures["id"].to_pylist()]
    content = long_csv.read_bytes()
    long_csv.write_bytes(content[: len(content) * 2 // 3])
    got: list[str] = []
    batches = (batch.structures["id"].to_pylist() for batch in read(long_csv, batch_size=16))
    with pytest.raises(UnreadableSource, match="truncated after record") as caught:
        deque(map(got.extend, batches))
    assert 16 < len(got) < len(whole)
    assert got == whole[: len(got)]
    assert f"after record {len(got)} ({got[-1]})" in str(caught.value)


def test_truncated_file_in_a_folder_spares_the_others(tmp_path, long_csv, crystals):
    long_csv.write_bytes(long_csv.read_bytes()[:-200])
    CifWriter(crystals["halite"]).write_file(tmp_path / "z.cif")
    batches = list(read(tmp_path))
    assert batches[-1].structures["id"].to_pylist()[-1] == "z"
    (rejected,) = [rejected for batch in batches for rejected in batch.rejected]
    assert "truncated" in rejected.reason


def test_truncated_plain_files(tmp_path, long_csv):
    text = gzip.decompress(long_csv.read_bytes()).decode()
    (tmp_path / "cut.csv").write_text(text[: text.rindex("_cell_length_a")])
    assert "truncated after record 159" in stops(tmp_path / "cut.csv")
    (tmp_path / "cut.xyz").write_text("1\n\nH 0 0 0\n3\n\nO 0 0 0\n")
    assert "truncated after record 1" in stops(tmp_path / "cut.xyz")


def test_one_bad_block_of_a_cif_does_not_kill_the_rest(tmp_path):
    good = cif("Na1 Na 0 0 0 1")
    bad = cif("Na1 Na 0 0 0")
    names = ("first", "second", "third")
    blocks = zip((good, bad, good), names, strict=True)
    text = "".join(block.replace("data_x", f"data_{name}") for block, name in blocks)
    (tmp_path / "many.cif").write_text(text)
    (batch,) = read(tmp_path / "many.cif")
    assert batch.structures["id"].to_pylist() == ["first", "third"]
    (rejected,) = batch.rejected
    assert (rejected.record, rejected.id) == ("many.cif, data_second", "second")
    assert "Wrong number of values" in rejected.reason


@pytest.mark.filterwarnings("error")
def test_no_reader_passes_on_the_warnings_of_others(tmp_path, crystals):
    """pymatgen warns of helium, which has no electronegativity, and of a property of some sites."""
    helium = Structure(Lattice.cubic(4), ["He", "He"], [[0] * 3, [0.5] * 3])
    document = helium.as_dict()
    document["sites"][0]["properties"] = {"magmom": 1.0}
    (tmp_path / "a.json").write_text(json.dumps(document))
    ase.io.write(tmp_path / "a.extxyz", AseAtomsAdaptor.get_atoms(helium))
    _composition.cache_clear()
    Element.He.__dict__.pop("X", None)  # pymatgen warns of it once a process
    for source in (tmp_path / "a.json", tmp_path / "a.extxyz", helium):
        (batch,) = read(source)
        assert batch.structures["formula"].to_pylist() == ["He"]


def test_one_bad_row_does_not_kill_the_rest(tmp_path, crystals):
    good = str(CifWriter(crystals["halite"]))
    rows = {"material_id": ["a", "b", "c"], "cif": [good, "rubbish", good.replace("5.64", "abc")]}
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv")
    (batch,) = read(tmp_path / "t.csv")
    assert batch.structures["id"].to_pylist() == ["a"]
    assert [(r.record, r.id) for r in batch.rejected] == [("row 2 (b)", "b"), ("record 3 (c)", "c")]
