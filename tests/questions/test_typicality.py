"""Typicality of real crystals, asked in every way."""

import duckdb
import numpy as np
import pandas as pd
import pytest
from stored import crystal_of

from platonic_store.errors import InvalidQuery, StructureNotFound
from platonic_store.questions.shared.inputs import embed_external
from platonic_store.storage import lookup


def test_stored_scores_are_those_that_are_computed(own_prototypes):
    asked = [("structure", 300), ("atom", 40)]
    computed = [own_prototypes.outliers(k=k, level=level) for level, k in asked]
    own_prototypes.score()
    for (level, k), frame in zip(asked, computed, strict=True):
        stored = own_prototypes.outliers(k=k, level=level)
        pd.testing.assert_frame_equal(stored, frame, check_dtype=False)
    judged = own_prototypes.sql("FROM typicality WHERE model = 'sevennet-0'")
    assert judged["structure_id"].is_unique
    # The calibration's p-values are the ranks of its scores; the others' are like them.
    assert 0.01 < (judged["p"] <= 0.05).mean() < 0.12
    assert judged["p"].corr(judged["atypicality"], method="spearman") < -0.99


def test_no_structure_is_compared_with_its_own_composition(prototypes):
    near = prototypes.outliers(k=300, level="atom")
    formulas = dict(
        prototypes.sql("SELECT structure_id, formula FROM structure").itertuples(index=False)
    )
    assert (near["structure_id"].map(formulas) != near["nearest_id"].map(formulas)).all()


def test_outliers_are_unlike_all_others(prototypes):
    found = prototypes.outliers(model="sevennet-0", k=284)
    assert found["atypicality"].is_monotonic_decreasing
    assert (found["structure_id"] != found["nearest_id"]).all()
    assert found["structure_id"].is_unique


def test_a_file_is_scored_as_if_it_were_stored(prototypes):
    stored = prototypes.typicality("Spinel", model="chgnet-0.3.0").iloc[0]
    asked = prototypes.typicality(crystal_of(prototypes, "Spinel"), model="chgnet-0.3.0").iloc[0]
    np.testing.assert_allclose(asked["atypicality"], stored["atypicality"], rtol=1e-3)
    np.testing.assert_allclose(asked["p"], stored["p"], atol=0.02)
    assert asked["nearest_id"] == stored["nearest_id"]
    with prototypes.snapshot() as snapshot:
        side = lookup.model_layer(snapshot, "chgnet-0.3.0")
    embedded = embed_external(prototypes.snapshot(), crystal_of(prototypes, "Spinel"), side)
    again = prototypes.typicality(embedded, model="chgnet-0.3.0").iloc[0]
    assert (again["p"], again["nearest_id"]) == (asked["p"], asked["nearest_id"])


def test_models_are_compared_by_the_neighbours_they_share(scored):
    frame = scored.disagreement(k=300)
    assert frame["disagreement"].is_monotonic_decreasing
    assert frame["disagreement"].between(0, 1).all()
    agreement = scored.sql("FROM atom_agreement")
    least = 1 - agreement.groupby("structure_id")["agreement"].min()
    np.testing.assert_allclose(frame["disagreement"], frame["structure_id"].map(least))
    # Typical atoms are the same for both models, so by chance they would share hardly any.
    assert agreement["agreement"].mean() > 0.3
    assert 0.01 < (frame["p"] <= 0.05).mean() < 0.12


def test_the_plain_client_ranks_alike(own_prototypes):
    own_prototypes.score(["chgnet-0.3.0"])
    sql = "SELECT structure_id, site_index, p FROM outliers(model := 'chgnet-0.3.0', k := 7)"
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    connection.execute(own_prototypes.init_sql())
    pd.testing.assert_frame_equal(connection.execute(sql).df(), own_prototypes.sql(sql))
    one = "SELECT structure_id, p FROM typicality('Spinel', model := 'chgnet-0.3.0')"
    pd.testing.assert_frame_equal(connection.execute(one).df(), own_prototypes.sql(one))


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda s: s.typicality("Spinell"), StructureNotFound, "Spinel"),
        (lambda s: s.typicality(["Spinel", "Spinell"]), StructureNotFound, "Spinell"),
        (lambda s: s.typicality("Spinel", level="bond"), InvalidQuery, "structure, atom"),
        (lambda s: s.outliers(k=0), InvalidQuery, "at least 1"),
        (lambda s: s.disagreement(), InvalidQuery, "no two models"),
    ],
)
def test_wrong_questions_get_one_line(prototypes, call, error, says):
    with pytest.raises(error, match=says) as raised:
        call(prototypes)
    assert "\n" not in str(raised.value)
