"""Analogies on a real store, and those that a store poses itself."""

import numpy as np
import pytest
from ase.build import bulk
from typer.testing import CliRunner

from platonic_store import errors
from platonic_store.cli import app
from platonic_store.questions.analogy import expression_vector
from platonic_store.questions.shared import substitutions
from platonic_store.questions.shared.expression import read
from platonic_store.storage.snapshot import ModelLayer
from platonic_store.store import Store

MODEL = "chgnet-0.3.0"


@pytest.fixture(scope="session")
def salts(tmp_path_factory) -> Store:
    """Twelve rock salts, and a second CsCl in the caesium chloride structure."""
    crystals = {
        f"{a}{b}": bulk(f"{a}{b}", "rocksalt", a=5.0 + i / 10 + j / 5)
        for i, a in enumerate(("Na", "K", "Rb", "Cs"))
        for j, b in enumerate(("Cl", "Br", "I"))
    }
    crystals["caesium chloride"] = bulk("CsCl", "cesiumchloride", a=4.1)
    crystals["bcc Na"] = bulk("Na")
    store = Store.open(tmp_path_factory.mktemp("analogy") / "salts.store")
    store.ingest(crystals, ["control:composition", MODEL])
    store.select_anchors("random", 6, model=MODEL)
    store.project()
    return store


def test_ids_add_up(salts):
    found = salts.analogy("NaCl - KCl + KBr", model=MODEL, k=3)
    assert found["rank"].tolist() == [1, 2, 3]
    assert found["structure_id"][0] == "NaBr"
    assert not {"NaCl", "KCl", "KBr"} & set(found["structure_id"])
    vectors = [salts.embedding(id_, model=MODEL) for id_ in ("NaCl", "KCl", "KBr")]
    like = salts.similar(vectors[0] - vectors[1] + vectors[2], model=MODEL, k=1)
    assert like["distance"][0] == pytest.approx(found["distance"][0], abs=1e-6)


def test_an_element_is_exchanged_at_its_share(salts):
    assert salts.analogy("NaCl - Na + K", model=MODEL, k=1)["structure_id"][0] == "KCl"
    assert salts.analogy("KI - I + Br", model=MODEL, k=1)["structure_id"][0] == "KBr"
    with salts.snapshot() as snapshot:
        terms = read(snapshot, "NaCl - Na + K")
        side = ModelLayer("control:composition", 0)
        found = expression_vector(snapshot, terms, side, None)
    wanted = salts.embedding("KCl", model="control:composition")
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_formula_is_its_lowest_entry_or_all(tmp_path):
    cubic, other = bulk("CsCl", "rocksalt", a=6.9), bulk("CsCl", "cesiumchloride", a=4.1)
    cubic.info["e_above_hull"], other.info["e_above_hull"] = 0.1, 0.0
    store = Store.open(tmp_path / "two.store")
    store.ingest({"a": cubic, "b": other, "c": bulk("Cs")}, ["control:composition"])
    with store.snapshot() as snapshot:
        assert read(snapshot, "CsCl - Cl")[0].structures == ("b",)
        assert read(snapshot, "all ClCs - Cl")[0].structures == ("b", "a")


def test_a_file_is_a_term(salts, tmp_path):
    path = tmp_path / "mine.cif"
    bulk("NaCl", "rocksalt", a=5.05).write(path)
    assert salts.analogy(f"{path} - Na + K", model=MODEL, k=1)["structure_id"][0] == "KCl"


def test_sql_and_command_line_say_the_same(salts):
    python = salts.analogy("NaCl - KCl + KBr", model=MODEL, k=2)
    sql = salts.sql(
        f"SELECT structure_id FROM analogy('NaCl - KCl + KBr', model := '{MODEL}', k := 2)"
    )
    assert sql["structure_id"].tolist() == python["structure_id"].tolist()
    arguments = ["NaCl - KCl + KBr", "-m", MODEL, "-k", "2", "--format", "csv"]
    line = CliRunner().invoke(app, ["analogy", *arguments, "--store", str(salts.path)])
    assert [row.split(",")[1] for row in line.stdout.splitlines()[1:]] == python[
        "structure_id"
    ].tolist()


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("NaCl", "has one term"),
        ("NaCl-Na+K", "has one term"),
        ("NaCl - ", "a term is missing"),
        ("NaCl - + K", "a term is missing"),
        ("- NaCl + KCl", "must start with a positive term"),
        ("NaCl - Xx + K", "'Xx' is no id, file, element or formula of the store"),
        ("NaC - Na + K", r"formulas like it: NaCl"),
        ("NaCl - Cs + K", "there is no Cs to take away"),
        ("NaCl + K", "K has no element to replace"),
        ("NaCl - Na + Po", "has embedded no atom of Po"),
        ("Po - Na + K", "no crystal of Po"),
    ],
)
def test_wrong_expressions_get_one_line(salts, expression, reason):
    with pytest.raises(errors.InvalidQuery, match=reason) as raised:
        salts.analogy(expression, model=MODEL)
    assert "\n" not in str(raised.value)


def test_cases_are_parallelograms_of_one_prototype(salts):
    with salts.snapshot() as snapshot:
        cases = substitutions.cases(snapshot)
        fewer = substitutions.cases(snapshot, limit=20)
    rows = cases[["start", "minus", "plus", "target"]]
    assert len(cases) == 4 * 6 * 3, "four corners, pairs of metals, pairs of halogens"
    assert not rows.duplicated().any()
    assert not cases.isin(["caesium chloride", "bcc Na"]).any().any(), "another prototype"
    row = cases[(rows == ["NaCl", "KCl", "KBr", "NaBr"]).all(axis=1)].iloc[0]
    assert (row["apart"], row["polymorphs"]) == (1, 0)
    assert set(cases.loc[cases["target"] == "CsCl", "polymorphs"]) == {1}
    assert len(fewer) == 20
    assert fewer.merge(cases).equals(fewer)


def test_composition_answers_all_but_polymorphs(salts):
    with salts.snapshot() as snapshot:
        cases = substitutions.cases(snapshot)
        (alone,) = substitutions.score_of_composition(snapshot, cases).to_dict("records")
        (model,) = substitutions.score(snapshot, cases, "control:composition").to_dict("records")
        (trained,) = substitutions.score(snapshot, cases, MODEL).to_dict("records")
    assert alone["formula"] == 1
    assert alone["polymorph"] == 0.5, "rock salt or caesium chloride: it cannot know"
    assert alone["hit"] == pytest.approx(model["hit"]), "the control sees just that"
    assert alone["low"] <= alone["hit"] <= alone["high"]
    assert trained["hit"] > trained["nearest"]
    assert trained["cases"] == len(cases)


def test_across_models_anchors_are_no_targets(salts):
    with salts.snapshot() as snapshot:
        cases = substitutions.cases(snapshot)
        anchored = set(snapshot.frame("SELECT structure_id FROM anchor")["structure_id"])
        found = substitutions.score(snapshot, cases, "control:composition", MODEL)
    left = cases[~cases["target"].isin(anchored)]
    assert 0 < found["cases"][0] == len(left) < len(cases)
    assert (found["model"][0], found["across"][0]) == ("control:composition@0", f"{MODEL}@2")


def test_terms_by_one_model_and_answers_by_another(salts):
    found = salts.analogy("NaCl - KCl + KBr", model="control:composition", across=MODEL, k=20)
    assert len(found) == len(salts.sql("FROM structure")) - 3, "the terms are no answers"
    assert found["distance"].is_monotonic_increasing
