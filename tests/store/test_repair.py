"""Damage is found by checksum, and what can be computed again comes back the same."""

import shutil
from pathlib import Path

import pytest
from store_fakes import content, crystals, know_fakes, pipeline

from platonic_store.errors import StoreDamaged
from platonic_store.storage import lance_tables
from platonic_store.storage.lance_tables import open_table
from platonic_store.store import Store


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store with embeddings, coordinates, scores and a map, by two models."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patched:
        know_fakes(in_process=True, patch=patched.setattr)
        store = Store.open(folder / "whole.store")
        pipeline(store, crystals(60), folder)
        store.score()
        store.map()
    return store


@pytest.fixture
def store(fakes, whole, tmp_path) -> Store:
    shutil.copytree(whole.path, tmp_path / "copy.store")
    return Store.open(tmp_path / "copy.store")


def flip(path: Path) -> None:
    """Turn one bit, in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damage(store: Store, start: str) -> str:
    """Turn a bit of the first file of the snapshot whose path begins so."""
    path = next(
        file.path for file in store.snapshot().manifest.files() if file.path.startswith(start)
    )
    flip(store.path / path)
    return path


def computed(store: Store) -> list:
    order = "ORDER BY model, structure_id"
    return [
        store.sql(f"FROM structure_map {order}").to_csv(),
        store.sql(f"FROM atom_map {order}, site_index").to_csv(),
        store.sql(f"FROM typicality {order}").to_csv(),
        store.sql(f"FROM atom_typicality {order}, site_index").to_csv(),
    ]


SPACE = "vectors/cosine-"


@pytest.mark.parametrize(
    ("start", "mended"),
    [
        ("vectors/fake-a.1.atom.lance/data", "embedded again by fake-a"),
        ("vectors/fake-b.1.structure.lance/data", "embedded again by fake-b"),
        ("vectors/fake-a.1.atom.lance/_versions", "embedded again by fake-a"),
        (SPACE, "projected again"),
        ("rows/structure_scores", "scored again"),
        ("rows/atom_scores", "scored again"),
        ("rows/structure_map", "placed on the map again"),
        ("rows/atom_map", "placed on the map again"),
        ("rows/layout_points", "placed on the map again"),
        ("rows/parameters", "projections fitted again"),
    ],
)
def test_what_is_computed_again_is_the_same(store, whole, start, mended):
    path = damage(store, start)
    again = Store.open(store.path)
    assert f"{path} is damaged" in again.doctor(deep=True)["problems"]
    found = again.doctor(deep=True, repair=True)
    assert found["problems"] == []
    assert any(mended in line for line in found["mended"])
    healed = Store.open(store.path)
    assert content(healed) == content(whole)
    assert computed(healed) == computed(whole)
    assert healed.doctor(deep=True)["problems"] == []


def test_only_the_structures_in_damaged_files_are_embedded_again(store, monkeypatch):
    monkeypatch.setattr(lance_tables, "maintain", lambda uri, version, _: open_table(uri, version))
    store.ingest({f"x{id}": atoms for id, atoms in crystals(3, seed=5).items()}, ["fake-a"])
    manifest = store.snapshot().manifest
    files = [file for file in manifest.vectors["fake-a.1.atom"].files if "/data/" in file.path]
    assert len(files) == 2
    flip(store.path / min(files, key=lambda file: file.size).path)
    found = Store.open(store.path).doctor(deep=True, repair=True)
    assert "3 structures embedded again by fake-a" in found["mended"]


def test_a_damaged_manifest_comes_back_from_its_copy(store, whole):
    flip(store.path / f"manifests/{store.snapshot().id:08}.json")
    with pytest.raises(StoreDamaged, match="manifest") as raised:
        Store.open(store.path).similar("c0")
    assert "doctor" in str(raised.value.__notes__)
    found = Store.open(store.path).doctor(deep=True, repair=True)
    assert found["problems"] == []
    assert content(Store.open(store.path)) == content(whole)


def test_a_damaged_manifest_without_copy_gives_way_to_the_one_before(store):
    last = store.snapshot().id
    flip(store.path / f"manifests/{last:08}.json")
    flip(store.path / "manifests/newest.json")
    found = Store.open(store.path).doctor(deep=True, repair=True)
    assert any(f"snapshot {last}" in line for line in found["mended"])
    assert Store.open(store.path).doctor(deep=True)["problems"] == []


def test_a_damaged_catalogue_gives_way_to_an_earlier_snapshot(store, whole):
    store.select_anchors(k=5, model="fake-a")  # only the catalogue changes
    damage(store, "catalog/")
    with pytest.raises(StoreDamaged, match="snapshot"):
        Store.open(store.path).doctor(deep=True)
    found = Store.open(store.path).doctor(deep=True, repair=True)
    assert found["problems"] == []
    assert any("back" in line or "again" in line for line in found["mended"])
    assert content(Store.open(store.path)) == content(whole)


def test_lost_atoms_are_said_and_nothing_else_is_touched(store, whole):
    path = damage(store, "rows/crystals")
    found = Store.open(store.path).doctor(deep=True, repair=True)
    assert f"{path} is damaged" in found["problems"]
    assert content(Store.open(store.path)) == content(whole)
