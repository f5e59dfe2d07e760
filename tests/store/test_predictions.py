"""Energies and forces beside embeddings: stored once, resumed, deleted, copied, repaired."""

import numpy as np
import pytest
from fake.adapter import embedding
from store_fakes import content, crystals, embedded

from platonic_store.errors import InvalidQuery
from platonic_store.store import Store

BOTH = "energy,forces"


def flip(path):
    """Turn a bit of the data, not of the footer."""
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)


def predictions(store):
    """{(structure, model): (energy, forces)}; asserts that nothing is there twice."""
    energies = store.sql("FROM prediction ORDER BY structure_id, model")
    atoms = store.sql("FROM atom_prediction ORDER BY structure_id, model, site_index")
    found = {
        key: rows[["fx", "fy", "fz"]].to_numpy()
        for key, rows in atoms.groupby(["structure_id", "model"])
    }
    keys = list(zip(energies.structure_id, energies.model, strict=True))
    assert len(set(keys)) == len(keys)
    return {k: (e, found.get(k)) for k, e in zip(keys, energies.energy, strict=True)}


def expected(pool, model):
    rows = {id_: embedding(atoms, model[-1], 0) for id_, atoms in pool.items()}
    return {(i, model): (r.sum(dtype=float), r[:, :3]) for i, r in rows.items()}


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for key, (energy, forces) in wanted.items():
        assert found[key][0] == pytest.approx(energy)
        assert np.array_equal(found[key][1], forces)


def test_embedded_structures_get_what_they_lack_and_no_vector_is_doubled(store):
    pool = crystals(12)
    store.ingest(dict(list(pool.items())[:8]), ["fake-a"])
    before = content(store)
    _, (run,) = store.ingest(dict(list(pool.items())[:5]), ["fake-a"], outputs="energy")
    assert run.structures == 5
    assert all(forces is None for _, forces in predictions(store).values())
    assert content(store) == before
    _, (run,) = store.ingest(pool, ["fake-a"], outputs=BOTH)
    assert run.structures == 12
    assert_same(predictions(store), expected(pool, "fake-a"))
    assert embedded(store, "fake-a") == set(pool)
    _, (run,) = store.ingest(pool, ["fake-a"], outputs=BOTH)
    assert run.run == 0, "nothing is lacking"
    assert store.doctor()["problems"] == []
    store.ingest(pool, ["fake-a"], layers="all", outputs=BOTH)
    assert embedded(store, "fake-a", 0) == set(pool)
    assert_same(predictions(store), expected(pool, "fake-a"))
    assert store.doctor()["problems"] == []
    outputs = store.sql("SELECT outputs FROM run ORDER BY started_at").outputs
    assert [None if one is None else list(one) for one in outputs] == [
        None,
        ["energy"],
        ["energy", "forces"],
        None,  # only layers were lacking
    ]
    versions = store.sql(
        "SELECT DISTINCT identity->>'$.versions.numpy' AS numpy FROM prediction JOIN run "
        "ON run.id = prediction.run"
    )
    assert versions.numpy.tolist() == [np.__version__]


def test_without_outputs_there_are_none(store):
    store.ingest(crystals(3), ["fake-a"])
    assert store.sql("FROM prediction").empty
    assert store.sql("FROM atom_prediction").empty
    assert "structure_predictions" not in store.snapshot().manifest.rows


def test_delete_and_ingest_again_and_a_copy(store, tmp_path):
    pool = crystals(6)
    store.ingest(pool, ["fake-a", "fake-b"], outputs=BOTH)
    whole = {**expected(pool, "fake-a"), **expected(pool, "fake-b")}
    store.delete(["c0", "c3"])
    assert_same(predictions(store), {k: v for k, v in whole.items() if k[0] not in ("c0", "c3")})
    assert store.doctor()["problems"] == []
    store.ingest(pool, ["fake-a", "fake-b"], outputs=BOTH)
    assert_same(predictions(store), whole)
    store.copy(tmp_path / "copy.store")
    assert_same(predictions(Store.open(tmp_path / "copy.store")), whole)


def test_the_doctor_finds_forces_of_too_few_atoms(store):
    store.ingest(crystals(4), ["fake-a"], outputs=BOTH)
    with store._writing("hurt") as writer, writer.writing():
        writer.delete_rows("atom_predictions", "structure_id = 'c1' AND site_index = 0")
    (problem,) = store.doctor()["problems"]
    assert "1 structures have forces by fake-a on too few" in problem


@pytest.mark.parametrize("tables", [["atom"], ["structure"], ["structure", "atom"]])
def test_what_is_damaged_is_predicted_again(store, tables):
    pool = crystals(4)
    store.ingest(pool, ["fake-a"], outputs=BOTH)
    for name in tables:
        (file,) = store.snapshot().manifest.rows[f"{name}_predictions"]
        flip(store.path / file.path)
    found = Store.open(store.path).doctor(deep=True, repair=True)
    assert found["problems"] == []
    assert "4 structures predicted again by fake-a" in found["mended"]
    assert_same(predictions(Store.open(store.path)), expected(pool, "fake-a"))


def test_what_cannot_be_asked_for(store):
    with pytest.raises(InvalidQuery, match="no output stress"):
        store.ingest(crystals(2), ["fake-a"], outputs="energy,stress")
    assert not store.path.exists()
