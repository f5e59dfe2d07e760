"""What a repeated, widened or contradicting ingest does."""

import itertools

import ase
import pytest
from store_fakes import content, crystals, embedded, vectors_of

from platonic_store.errors import ConflictingStructure, InvalidQuery, StructureNotFound


def versions(store):
    with store.snapshot() as snapshot:
        return {name: table.version for name, table in snapshot.manifest.vectors.items()}


def test_the_same_again_is_a_no_op(store):
    pool = crystals(20)
    source, (run,) = store.ingest(pool, ["fake-a"])
    assert (source.new, source.known, run.structures) == (20, 0, 20)
    before, at = content(store), versions(store)
    for id_, atoms in pool.items():
        expected = vectors_of(atoms, "fake-a", 1)
        for site, vector in enumerate(expected):
            assert before[None, "fake-a", 1, "atom"][id_, site] == vector.tobytes()

    source, (run,) = store.ingest(pool, ["fake-a"])
    assert (source.new, source.known) == (0, 20)
    assert (run.run, run.structures) == (0, 0), "a run that has nothing to do is not made"
    _, (run,) = store.ingest(models=["fake-a"])
    assert run.run == 0
    assert versions(store) == at
    assert content(store) == before
    assert store.doctor()["problems"] == []


def test_a_layer_added_later_embeds_that_layer_alone(store):
    pool = crystals(12)
    store.ingest(pool, ["fake-a"], layers="1")
    before, at = content(store), versions(store)
    _, (run,) = store.ingest(pool, ["fake-a"], layers="all")
    assert run.structures == 12
    assert {name: version for name, version in versions(store).items() if name in at} == at
    after = content(store)
    assert set(after) - set(before) == {
        (None, "fake-a", 0, level) for level in ("atom", "structure")
    }
    assert all(after[key] == rows for key, rows in before.items())

    more = crystals(5, seed=1)
    more = {f"new-{id_}": atoms for id_, atoms in more.items()}
    store.ingest(more, ["fake-a"], layers="0")
    _, (run,) = store.ingest(models=["fake-a"], layers="0,1")
    assert run.structures == 5
    assert embedded(store, "fake-a", 0) == embedded(store, "fake-a", 1) == {*pool, *more}
    assert store.doctor()["problems"] == []


def test_a_model_is_given_what_the_source_holds_now(store):
    """All Python objects are one source, and a file may hold other crystals today."""
    pool = crystals(4)
    store.ingest({"c0": pool["c0"], "c1": pool["c1"]}, ["fake-b"])
    _, (run,) = store.ingest({"c0": pool["c0"], "c2": pool["c2"]}, ["fake-a"])
    assert run.structures == 2
    assert embedded(store, "fake-a") == {"c0", "c2"}


def test_another_content_under_a_known_id_is_refused_and_the_rest_kept(store):
    pool = crystals(6)
    store.ingest({"c0": pool["c0"]}, ["fake-a"])
    stranger = crystals(1, seed=9)["c0"]
    for _ in range(2):
        with pytest.raises(ConflictingStructure, match="c0") as raised:
            store.ingest({**pool, "c0": stranger})
        assert "\n" not in str(raised.value)
        reasons = store.sql("SELECT structure_id, reason FROM quarantine")
        assert reasons.structure_id.tolist() == ["c0"], "once, however often it is tried"
    assert set(store.sql("SELECT structure_id FROM structure").structure_id) == set(pool)
    store.ingest(models=["fake-a"])
    assert content(store)[None, "fake-a", 1, "atom"]["c0", 0] == (
        vectors_of(pool["c0"], "fake-a", 1)[0].tobytes()
    )


def test_one_source_that_contradicts_itself(store):
    one, other = crystals(2).values()
    with pytest.raises(ConflictingStructure, match="x"):
        store.ingest([("x", one), ("x", one), ("x", other), ("y", other)])
    found = store.sql("SELECT structure_id FROM structure ORDER BY ALL")
    assert found.structure_id.tolist() == ["x", "y"]


def with_properties(atoms, **properties):
    atoms = atoms.copy()
    atoms.info = properties
    return atoms


def test_properties_are_typed_widened_and_never_shadow_the_stores_own(store):
    first, second, third = crystals(3).values()
    own = {"formula": "H2O", "id": 7, "structure_id": "mine"}
    store.ingest({"p": with_properties(first, n=1, flag=True, Phase="alpha", **own)})
    types = dict(
        store.sql("SELECT column_name, column_type FROM (DESCRIBE structure)").itertuples(
            index=False
        )
    )
    assert (types["n"], types["flag"], types["Phase"]) == ("BIGINT", "BOOLEAN", "VARCHAR")
    assert types["source_formula"] == types["source_structure_id"] == "VARCHAR"
    assert types["source_id"] == "BIGINT"
    assert "id" not in types
    store.ingest({"q": with_properties(second, n=2.5, flag=False, PHASE="beta")})
    found = store.sql("SELECT structure_id FROM structure WHERE N > 2")
    assert found.structure_id.tolist() == ["q"]
    assert store.sql("SELECT phase FROM structure ORDER BY structure_id").iloc[:, 0].tolist() == [
        "alpha",
        "beta",
    ]
    store.ingest({"r": with_properties(third, n="many")})
    found = store.sql("SELECT structure_id, n FROM structure ORDER BY structure_id")
    assert found.n.tolist() == ["1.0", "2.5", "many"]
    # A value that is there stays; one that was not is filled in.
    store.ingest({"r": with_properties(third, n="few", phase="gamma")})
    found = store.sql("SELECT n, phase FROM structure WHERE structure_id = 'r'")
    assert found.values.tolist() == [["many", "gamma"]]


def test_any_two_views_are_joined_by_structure_id(store):
    views = [
        *("structure", "site", "quarantine", "anchor", "typicality"),
        *("atom_typicality", "atom_agreement", "disagreement"),
    ]
    pool = {id_: with_properties(atoms, id=1, structure_id=2) for id_, atoms in crystals(3).items()}
    store.ingest(pool, ["fake-a"])
    for one, other in itertools.combinations(views, 2):
        found = store.sql(f"SELECT structure_id FROM {one} JOIN {other} USING (structure_id)")
        assert found.columns.tolist() == ["structure_id"]
    assert store.sql("FROM structure").columns.tolist().count("structure_id") == 1


def test_what_cannot_be_embedded_is_in_quarantine_once_with_its_reason(store):
    pool = crystals(4)
    overlapping = ase.Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.01]], cell=[4, 4, 4], pbc=True)
    actinide = ase.Atoms("Lr", cell=[4, 4, 4], pbc=True)
    source = {**pool, "overlapping": overlapping, "actinide": actinide}
    for expected, newly_rejected in (((5, 0, 1), 1), ((0, 5, 1), 0)):
        report, (run,) = store.ingest(source, ["fake-a"])
        assert (report.new, report.known, report.rejected) == expected
        assert run.rejected == newly_rejected
        assert bool(run.run) == bool(newly_rejected), "nothing to embed: no worker, no run"
        store.ingest(models=["fake-a"])
        rows = store.sql("SELECT record, model, reason FROM quarantine ORDER BY reason")
        assert len(rows) == 2, rows
        assert "does not know element Lr" in rows.reason[0]
        assert rows.model[0] == "fake-a"
        assert "overlapping atoms" in rows.reason[1]
    assert embedded(store, "fake-a") == set(pool)
    assert store.doctor()["problems"] == []
    store.delete(["actinide"])
    assert len(store.sql("FROM quarantine")) == 1


def test_a_structure_that_a_model_accepts_at_last_leaves_the_quarantine(store, monkeypatch):
    from platonic_store.storage import quarantine

    store.ingest(crystals(3))
    with store._writing("reject one") as writer, writer.writing() as connection:
        quarantine.add(connection, None, "fake-a", [("c1", "c1", "killed its worker twice")])
    store.ingest(models=["fake-b"])
    assert len(store.sql("FROM quarantine")) == 1
    store.ingest(models=["fake-a"])
    assert len(store.sql("FROM quarantine")) == 0


def test_delete_whatever_the_id(store):
    pool = crystals(8)
    odd = 'it\'s -- a "name"; %s'
    pool[odd] = crystals(1, seed=4)["c0"]
    store.ingest(pool, ["fake-a", "fake-b"])
    store.select_anchors("random", 4)
    store.project()
    anchored = set(store.sql("SELECT structure_id FROM anchor").structure_id)
    with pytest.raises(InvalidQuery, match="anchor"):
        store.delete([next(iter(anchored))])
    with pytest.raises(StructureNotFound):
        store.delete(["c0", "nobody"])
    gone = sorted(set(pool) - anchored - {odd})[:2] + [odd] * (odd not in anchored)
    store.delete(gone)
    left = set(pool) - set(gone)
    assert set(store.sql("SELECT structure_id FROM structure").structure_id) == left
    for key, rows in content(store).items():
        assert {id_ for id_, *_ in rows} == left, key
    assert store.doctor()["problems"] == []
    store.ingest({id_: pool[id_] for id_ in gone}, ["fake-a", "fake-b"])
    assert embedded(store, "fake-a") == embedded(store, "fake-b") == set(pool)
    assert store.doctor()["problems"] == []


def test_real_models_again_are_a_no_op(own_prototypes):
    before, at = content(own_prototypes), versions(own_prototypes)
    _, runs = own_prototypes.ingest("builtin:aflow-prototypes", ["sevennet-0", "chgnet-0.3.0"])
    assert [run.run for run in runs] == [0, 0]
    assert content(own_prototypes) == before
    assert versions(own_prototypes) == at
    assert own_prototypes.doctor()["problems"] == []
