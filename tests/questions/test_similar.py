import numpy as np
import pytest
import sqlalchemy as sa
from stored import crystal_of

from platonic_store import questions
from platonic_store.arrow import vector_matrix
from platonic_store.errors import (
    AnchorsNotFound,
    CheckpointMismatch,
    InvalidQuery,
    LayerNotFound,
    ModelNotFound,
    NotEmbedded,
    StructureNotFound,
    worded,
)
from platonic_store.storage import lookup
from platonic_store.storage import tables as t
from platonic_store.store import Store
from platonic_store.structures import builtin


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_nearest_structures_are_those_of_brute_force(prototypes):
    table = prototypes.embeddings("sevennet-0", level="structure")
    vectors, ids = unit(vector_matrix(table["vector"])), table["structure_id"].to_pylist()
    distances = 1 - vectors @ vectors[ids.index("Spinel")]
    expected = [ids[i] for i in np.argsort(distances) if ids[i] != "Spinel"][:10]
    found = prototypes.similar("Spinel", model="sevennet-0", k=10)
    assert found["structure_id"].tolist() == expected
    assert found["rank"].tolist() == list(range(1, 11))
    assert found["distance"].is_monotonic_increasing
    assert {"formula", "spacegroup", "mineral", "pearson"} <= set(found.columns)


def test_a_structure_is_the_mean_of_its_atoms(prototypes):
    atoms = prototypes.embeddings("chgnet-0.3.0").to_pandas()
    mean = np.mean(np.stack(atoms[atoms["structure_id"] == "Spinel"]["vector"]), axis=0)
    np.testing.assert_allclose(
        prototypes.embedding("Spinel", model="chgnet-0.3.0"), mean, rtol=1e-5
    )


def test_across_models_most_structures_find_themselves(prototypes):
    ids = prototypes.sql("SELECT structure_id FROM structure ORDER BY structure_id")[
        "structure_id"
    ][::12]
    embedded = set(
        prototypes.embeddings("sevennet-0", level="structure")["structure_id"].to_pylist()
    )
    asked = [id_ for id_ in ids if id_ in embedded]
    found = [
        id_
        in prototypes.similar(id_, model="sevennet-0", across="chgnet-0.3.0", k=10)[
            "structure_id"
        ].values
        for id_ in asked
    ]
    assert np.mean(found) > 0.7  # by chance 10 of 284 would


def test_a_condition_leaves_k_answers_wherever_k_exist(prototypes):
    found = prototypes.similar("Spinel", k=284, where="spacegroup = 225")
    embedded = prototypes.embeddings(level="structure")["structure_id"].to_pylist()
    quoted = ", ".join("'" + id_.replace("'", "''") + "'" for id_ in embedded)
    there = prototypes.sql(
        f"SELECT count(*) AS n FROM structure WHERE spacegroup = 225 AND structure_id IN ({quoted})"
    )
    assert len(found) == there["n"][0] > 3
    assert (found["spacegroup"] == 225).all()


def test_atoms_come_one_for_each_set_of_equivalent_sites(prototypes):
    found = prototypes.similar("Spinel", site=0, k=200)
    sites = prototypes.sql("SELECT structure_id, site_index, orbit FROM site")
    joined = found.merge(sites, on=["structure_id", "site_index"])
    assert (joined["site_index"] == joined["orbit"]).all()
    assert not joined.duplicated(["structure_id", "orbit"]).any()
    own = sites[(sites["structure_id"] == "Spinel") & (sites["site_index"] == 0)]["orbit"].item()
    assert not ((joined["structure_id"] == "Spinel") & (joined["orbit"] == own)).any()


def test_any_of_the_equivalent_sites_asks_the_same(prototypes):
    spinel = prototypes.sql(
        "SELECT site_index FROM site WHERE structure_id = 'Spinel' AND orbit = 0"
    )
    assert len(spinel) == 4
    answers = [
        prototypes.similar("Spinel", site=int(site), k=5)["structure_id"].tolist()
        for site in spinel["site_index"]
    ]
    assert all(answer == answers[0] for answer in answers)


def test_atom_conditions_may_name_sites(prototypes):
    found = prototypes.similar("Spinel", site=0, k=7, where="element = 'O' AND nsites < 20")
    assert len(found) == 7
    assert (found["element"] == "O").all()


def test_a_structure_from_outside_lands_on_its_twin(prototypes, tmp_path):
    from pymatgen.core import Lattice, Structure

    halite = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.6402), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    by_object = prototypes.similar(halite, k=3)
    assert by_object["structure_id"][0] == "Halite"
    halite.to(filename=str(tmp_path / "mine.cif"))
    by_file = prototypes.similar(
        str(tmp_path / "mine.cif"), k=3, model="chgnet-0.3.0", across="sevennet-0"
    )
    assert by_file["structure_id"][0] == "Halite"


def test_other_weights_than_the_stores_embed_nothing_from_outside(own_prototypes):
    with own_prototypes._writing("other weights") as writer, writer.writing() as connection:
        connection.execute(sa.update(t.models).values(checkpoint_sha256="0" * 64))
    spinel = crystal_of(own_prototypes, "Spinel")
    with pytest.raises(CheckpointMismatch, match=r"weights of sevennet-0 here are not"):
        own_prototypes.similar(spinel, model="sevennet-0")


def test_projecting_today_is_projecting_tomorrow(prototypes):
    """A stored projection puts a stored structure where the store has it, in half precision."""
    from platonic_store.geometry.projection import project
    from platonic_store.storage.side_points import side_points

    with prototypes.snapshot() as snapshot:
        space = lookup.space(snapshot, "aligned", ["chgnet-0.3.0"])
        side = lookup.side_in(snapshot, space, "chgnet-0.3.0")
        fitted, atoms = lookup.projection(snapshot, space, side), side_points(snapshot, side)
    stored = prototypes.embeddings("chgnet-0.3.0", space="aligned")
    key = ["structure_id", "site_index"]
    order = atoms.keys.select(key).to_pandas().sort_values(key).index.to_numpy()
    there = stored.sort_by([(name, "ascending") for name in key])
    np.testing.assert_allclose(
        project(fitted, atoms.vectors[order]), vector_matrix(there["vector"]), atol=5e-4
    )


def test_anchors_do_not_depend_on_how_the_store_was_filled(tmp_path):
    """The same crystals in two orders, in batches of two sizes: the same anchor set."""
    some = [crystal for crystal in builtin.records() if len(crystal.numbers) < 9][:20]
    chosen = []
    for name, order, batch_atoms in (("one", some, 64), ("other", some[::-1], 17)):
        store = Store.open(tmp_path / name)
        store.ingest(order, ["chgnet-0.3.0"], batch_atoms=batch_atoms)
        chosen.append(store.select_anchors("direct", 10))
    assert chosen[0].id == chosen[1].id
    assert len(chosen[0].atoms) == 10


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda s: s.similar("Spinell"), StructureNotFound, "Spinel"),
        (lambda s: s.similar("Spinel", model="chgnet-0.3"), ModelNotFound, "chgnet-0.3.0"),
        (
            lambda s: s.similar("Spinel", model="chgnet-r2scan"),
            ModelNotFound,
            "store.ingest(models=['chgnet-r2scan'])",
        ),
        (lambda s: s.similar("Spinel", model="sevennet-0@4"), LayerNotFound, "layers='4'"),
        (lambda s: s.similar("Spinel", space="centred"), AnchorsNotFound, "project"),
        (lambda s: s.similar("Spinel", where="bandgap > 1"), InvalidQuery, "bandgap"),
        (lambda s: s.similar("Spinel", where="1 = 1; DROP TABLE x"), InvalidQuery, "condition"),
        (lambda s: s.similar("Spinel", site=99), InvalidQuery, "0 to 13"),
        (lambda s: s.similar("Po"), NotEmbedded, "does not know element Po"),
        (lambda s: s.similar("Spinel", k=0), InvalidQuery, "at least 1"),
        (lambda s: s.similar(np.ones(3)), InvalidQuery, "128"),
        (lambda s: s.sql("SELEC 1"), InvalidQuery, "syntax"),
    ],
)
def test_mistakes_are_one_line_that_names_the_mend(prototypes, call, error, says):
    check_mistake(prototypes, call, error, says)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda s: s.select_anchors("kmeans"), InvalidQuery, "farthest"),
        (lambda s: s.project(recipe="pca"), InvalidQuery, "whitened"),
        (lambda s: s.project(anchors="ffff"), AnchorsNotFound, "store.select_anchors()"),
        (lambda s: s.select_anchors(k=10**6), InvalidQuery, "fewer"),
    ],
)
def test_mistakes_of_jobs_are_one_line_too(own_prototypes, call, error, says):
    check_mistake(own_prototypes, call, error, says)


def check_mistake(store, call, error, says):
    with pytest.raises(error) as raised:
        call(store)
    assert says in f"{raised.value}: {worded(raised.value.hint)}"
    assert "\n" not in str(raised.value)


def test_find_similar_has_the_names_of_the_materials_project(prototypes):
    found = prototypes.find_similar("Spinel", top=3)
    expected = prototypes.similar("Spinel", k=3)
    assert [one["material_id"] for one in found] == expected["structure_id"].tolist()
    assert set(found[0]) == {"material_id", "task_id", "formula", "nelements", "dissimilarity"}
    assert [one["dissimilarity"] for one in found] == (100 * expected["distance"]).tolist()
    assert len(prototypes.find_similar("Spinel", top=None)) > 280


def test_poolings_of_the_atoms(prototypes):
    from platonic_store.geometry.pooling import POOLINGS

    question = questions.get("similar")
    (choices,) = (one.choices for one in question.parameters if one.name == "pooling")
    assert set(choices) == set(POOLINGS)
    by_mean = prototypes.similar("Halite", k=3)
    found = prototypes.similar("Halite", k=3, pooling="cumulants", where="formula != 'NaCl'")
    assert list(found.columns) == list(by_mean.columns)
    assert (found["distance"].diff().dropna() >= 0).all()
    vector = prototypes.embedding("Halite")
    with pytest.raises(InvalidQuery, match="no atoms"):
        prototypes.similar(vector, pooling="cumulants")
    with pytest.raises(InvalidQuery, match="not atoms"):
        prototypes.similar("Halite", site=0, pooling="cumulants")
    across = prototypes.similar("Halite", k=1, pooling="by-element", across="chgnet-0.3.0")
    assert across["structure_id"].tolist() == ["Halite"]
