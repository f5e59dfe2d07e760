"""Where a model moved away from another, on a real store."""

import numpy as np
import pytest

from platonic_store.errors import InvalidQuery, ModelNotFound
from platonic_store.geometry.displacement import displacement
from platonic_store.questions.shared.pairing import paired_embeddings
from platonic_store.storage import lookup

NAMES = ("chgnet-0.3.0", "sevennet-0")


@pytest.fixture(scope="module")
def found(prototypes):
    return prototypes.moved(*NAMES, atoms=400)


def test_all_atoms_come_first_and_are_what_numpy_says(prototypes, found):
    with prototypes.snapshot() as snapshot:
        sides = [lookup.model_layer(snapshot, name) for name in NAMES]
        both = paired_embeddings(snapshot, sides, sample=400)
    moved = displacement(both.vectors[1], both.vectors[0], both.keys["structure_id"])
    first = found.iloc[0]
    assert (first["kind"], first["atoms"]) == ("all", len(moved))
    assert first["moved"] == pytest.approx(moved.mean())
    assert 0 < first["moved"] < first["null"] < 1.2
    assert np.isnan(first["p"])
    assert found["twin"].isna().all(), "the store has no twin"


def test_groups_are_of_ten_structures_the_farthest_first(found):
    groups = found.iloc[1:]
    assert set(groups["kind"]) == {"element", "environment"}
    assert (groups["structures"] >= 10).all()
    assert groups["moved"].is_monotonic_decreasing
    assert groups["p_any"].between(0, 1).all()
    oxygen = groups.set_index(["kind", "value"]).loc[("element", "O")]
    inside = groups[(groups["kind"] == "environment") & groups["value"].str.startswith("O ")]
    assert inside["atoms"].sum() <= oxygen["atoms"]


def test_a_twin_can_be_named_and_sql_says_the_same(prototypes, found):
    named = prototypes.moved(*NAMES, twin="chgnet-0.3.0", atoms=400)
    assert named.loc[0, "moved"] == pytest.approx(named.loc[0, "twin"])
    again = prototypes.sql("FROM moved('chgnet-0.3.0', 'sevennet-0', atoms := 400)")
    assert again["value"].tolist() == found["value"].tolist()


def test_what_is_wrong_is_said(prototypes):
    with pytest.raises(InvalidQuery, match="itself"):
        prototypes.moved("sevennet-0", "sevennet-0")
    with pytest.raises(ModelNotFound):
        prototypes.moved("sevennet-0", "nobody")
