"""Structures in the catalogue, with their crystals beside it."""

import ase
import ase.io
import pyarrow as pa
import pytest

from platonic_store.storage import bulk, gaps, quarantine, records
from platonic_store.storage.catalog import fetch_arrow
from platonic_store.store import Store
from platonic_store.structures import read

BCC = ase.Atoms("H2", [[0, 0, 0], [1, 1, 1]], cell=[2, 2, 2], pbc=True)


@pytest.fixture
def writer(tmp_path):
    with Store.open(tmp_path / "records.store")._writing("test", create=True) as writer:
        yield writer


def add(writer, source, atoms):
    (batch,) = read(atoms)
    return records.add_batch(writer, source, batch)


def query(writer, sql):
    with writer.reading() as connection:
        return fetch_arrow(connection, sql).to_pylist()


def nacl(shift=0.0):
    return ase.Atoms("NaCl", [[shift, 0, 0], [2.8, 0, 0]], cell=[5.6, 4, 4], pbc=True)


def test_crystals_of_new_structures_alone_are_added(writer):
    source = records.begin_source(writer, "a")
    first = add(writer, source, {"b": nacl(), "a": BCC})
    assert (first.new, first.known) == (2, 0)
    again = add(writer, source, {"c": nacl(0.1), "a": BCC})
    assert (again.new, again.known) == (1, 1)
    other = add(writer, source, {"c": nacl(0.2)})
    assert (other.new, other.conflicts) == (0, ["c"])

    found = query(writer, "SELECT structure_id, positions[1] AS x FROM crystals ORDER BY ALL")
    assert [tuple(row.values()) for row in found] == [("a", 0), ("b", 0), ("c", 0.1)]
    assert query(writer, "SELECT id, nsites, distinct_sites FROM structures ORDER BY id") == [
        {"id": "a", "nsites": 2, "distinct_sites": 1},
        {"id": "b", "nsites": 2, "distinct_sites": 2},
        {"id": "c", "nsites": 2, "distinct_sites": 2},
    ]
    members = query(writer, "SELECT source_id, structure_id FROM source_structures ORDER BY ALL")
    assert members == [{"source_id": source, "structure_id": id_} for id_ in "abc"]


def test_sites_come_in_the_order_asked_for(writer):
    add(
        writer,
        records.begin_source(writer, "a"),
        {"s": nacl(), "t": ase.Atoms("CO2", [[0] * 3, [0, 0, 1.2], [0, 1.2, 0]])},
    )
    found = records.sites(writer, ["t", "s"])
    assert found["atomic_number"].to_pylist() == [6, 8, 8, 11, 17]
    assert found["orbit"].to_pylist() == [0, 1, 2, 0, 1]
    assert records.sites(writer, []).num_rows == 0


def test_missing_structures_come_by_id_with_their_atoms(writer, monkeypatch):
    monkeypatch.setitem(bulk._ROW_GROUP, "crystals", 2)
    source = records.begin_source(writer, "a")
    atoms = {f"s{n}": nacl(0.01 * n) for n in range(7)}
    for part in (list(atoms)[::2], list(atoms)[1::2]):
        add(writer, source, {id_: atoms[id_] for id_ in part})
    add(writer, source, {"unknown": ase.Atoms("UPbO", [[0] * 3, [0, 0, 3], [0, 3, 0]])})
    elements = [8, 11, 17]
    wanted = gaps.Wanted("m", [0], ["energy"], elements)
    (gap,) = gaps.find_gaps(writer, source, wanted)
    assert gap == ([], [], 7, 14)
    pages = gaps.structures_of_gap(writer, source, wanted, gap)
    found = pa.Table.from_batches(list(pages)).to_pylist()
    assert [row["id"] for row in found] == sorted(atoms)
    assert [row["positions"][0] for row in found] == [0.01 * n for n in range(7)]
    assert quarantine.add_unsupported(writer, source, "m", elements) == 1
    assert query(writer, "SELECT structure_id, reason FROM quarantined") == [
        {"structure_id": "unknown", "reason": "m does not know element Pb, U"}
    ]


def test_what_a_source_no_longer_holds_is_no_member(writer):
    source = records.begin_source(writer, "a")
    add(writer, source, {"b": nacl(), "a": BCC})
    records.end_source(writer, source)
    assert records.begin_source(writer, "a") == source
    add(writer, source, {"a": BCC})
    records.end_source(writer, source)
    assert query(writer, "SELECT structure_id FROM source_structures") == [{"structure_id": "a"}]


def test_the_same_again_is_no_new_snapshot(fakes, tmp_path):
    store = Store.open(tmp_path / "same.store")
    atoms = {"a": BCC.copy(), "b": nacl()}
    atoms["b"].info["gap"] = 1.5
    ase.io.write(tmp_path / "some.extxyz", list(atoms.values()))
    for _ in range(2):
        store.ingest(tmp_path / "some.extxyz", ["fake-a"])
        store.ingest(atoms, ["fake-a"])
    first = store.snapshot().id
    store.ingest(tmp_path / "some.extxyz", ["fake-a"])
    assert store.snapshot().id == first
    atoms["a"].info["gap"] = 0.5
    store.ingest(atoms, ["fake-a"])
    assert store.snapshot().id > first
    assert store.sql("SELECT gap FROM structure WHERE structure_id = 'a'").gap.to_list() == [0.5]
