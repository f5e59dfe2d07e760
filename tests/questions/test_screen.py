"""Candidates and whole sets whose answer is known, against a real store."""

import ase.io
import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from stored import crystal_of

from platonic_store.errors import InvalidQuery, StructureNotFound, UnreadableSource

MODEL = "sevennet-0"


@pytest.fixture(scope="module")
def file(prototypes, tmp_path_factory):
    """Known crystals again, one twice, one with atoms too near, one that no model can embed."""
    spinel, rutile = (crystal_of(prototypes, id_) for id_ in ("Spinel", "Rutile"))
    squeezed = rutile.copy()
    squeezed.set_cell(rutile.cell[:] * 0.35, scale_atoms=True)
    swapped = rutile.copy()
    swapped.numbers[swapped.numbers == 22] = 78
    named = {
        "doubled": rutile * (1, 1, 2),
        "again": spinel,
        "squeezed": squeezed,
        "new": swapped,
        "new, moved": swapped.copy(),
        "too heavy": Atoms([104, 8], positions=[[0, 0, 0], [2, 2, 2]], cell=[4, 4, 4], pbc=True),
    }
    named["new, moved"].positions[0] += 0.005
    for name, atoms in named.items():
        atoms.info = {"id": name}
    path = tmp_path_factory.mktemp("screen") / "batch.extxyz"
    ase.io.write(path, list(named.values()))
    return path


@pytest.fixture(scope="module")
def answer(prototypes, file):
    return prototypes.screen(str(file), models=[MODEL], check=True).set_index("candidate")


def test_known_crystals_are_redundant_and_matched(answer):
    known = answer.loc[["doubled", "again"]]
    assert known["class"].eq("redundant").all()
    assert known["duplicate_of"].tolist() == ["Rutile", "Spinel"]
    assert known["matched"].eq(True).all()
    assert known["distance"].max() < 1e-5


def test_a_candidate_that_comes_again_is_redundant(answer):
    assert answer.loc["new, moved", "class"] == "redundant"
    assert answer.loc["new, moved", "same_as"] == "new"
    assert answer.loc["new", "class"] in ("frontier", "covered", "outside")
    assert pd.isna(answer.loc["new", "duplicate_of"])


def test_atoms_too_near_are_implausible_and_said_so(answer):
    row = answer.loc["squeezed"]
    assert row["class"] == "implausible"
    assert f"{row['shortest']:.2f} of the sum of their covalent radii" in row["rule"]


def test_what_no_model_embeds_comes_last_with_its_reason(answer):
    assert answer.index[-1] == "too heavy"
    assert answer.iloc[-1]["class"] == "rejected"
    assert "Rf" in answer.iloc[-1]["rule"]
    assert answer["rank"].tolist() == list(range(1, 7))


def test_the_order_is_by_class(answer):
    classes = ["frontier", "covered", "outside", "redundant", "implausible", "rejected"]
    places = answer["class"].map(classes.index)
    assert places.is_monotonic_increasing


def test_stored_structures_have_the_p_of_typicality(prototypes):
    ids = prototypes.sql("SELECT structure_id FROM structure")["structure_id"].tolist()
    found = prototypes.screen(ids, models=[MODEL]).set_index("candidate")
    assert "does not know element" in found.loc["High Pressure Californium", "rule"]
    found = found[found["class"] != "rejected"]
    ids = found.index.tolist()
    scored = prototypes.typicality(ids, model=MODEL).set_index("structure_id")
    np.testing.assert_allclose(found["p"], scored["p"].loc[found.index])
    assert (found["element"] == scored["element"].loc[found.index]).all()
    assert (found["nearest_id"] == scored["nearest_id"].loc[found.index]).all()
    # No structure is a duplicate of itself, and any order of the ids gives the same.
    assert not (found["duplicate_of"] == found.index).any()
    shuffled = prototypes.screen(ids[::-1], models=[MODEL]).set_index("candidate")
    columns = ["class", "p", "p_sparse", "duplicate_of", "site_index"]
    pd.testing.assert_frame_equal(
        shuffled.loc[ids, columns].reset_index(),
        found[columns].reset_index(),
        check_dtype=False,  # a rejected one has no site
    )


def test_models_agree_with_themselves_as_the_view_says(own_prototypes):
    own_prototypes.score()
    view = own_prototypes.sql("FROM disagreement").set_index("structure_id")
    found = own_prototypes.screen("true").set_index("candidate").loc[view.index]
    np.testing.assert_allclose(found["p"], view["p"])
    np.testing.assert_allclose(found["disagreement"], view["disagreement"])
    np.testing.assert_allclose(found["p_disagreement"], view["p_disagreement"])


def test_limits_have_the_error_rates_that_they_say(prototypes):
    limits = prototypes.screen_limits(models=[MODEL]).set_index("class")
    assert limits.loc["outside", "limit"] == 0.05
    # Some 90 held-out structures, of which one half judges the other.
    assert 0 <= limits.loc["outside", "measured"] < 0.15
    assert 0.05 < limits.loc["frontier", "measured"] < 0.4
    assert limits.loc["implausible", "measured"] < 0.05


def test_known_may_be_a_part_of_the_store(prototypes):
    whole = prototypes.screen("Rutile", models=[MODEL])
    part = prototypes.screen("Rutile", models=[MODEL], among="formula != 'TiO2'")
    assert pd.notna(whole["distance"][0])
    assert pd.isna(part["distance"][0])


def test_wrong_candidates_are_told(prototypes, tmp_path):
    with pytest.raises(StructureNotFound):
        prototypes.screen("Rutil")
    with pytest.raises(InvalidQuery, match="no file"):
        prototypes.screen("nelments > 2")
    with pytest.raises(InvalidQuery, match="no structure meets"):
        prototypes.screen("nelements = 90")
    empty = tmp_path / "none.extxyz"
    empty.write_text("nothing")
    with pytest.raises(UnreadableSource):
        prototypes.screen(str(empty))


def test_sets_are_compared_with_their_halves(prototypes):
    found = prototypes.compare_sets(
        "nelements = 3", "nelements = 2", models=[MODEL], resamples=10
    ).set_index("measure")
    assert found.loc["novel", "value"] == 1
    assert found.loc["frechet", "value"] > found.loc["frechet", "halves_high"]
    assert (found["low"] <= found["high"]).all()
    same = prototypes.compare_sets("true", models=[MODEL], space="aligned", resamples=10)
    same = same.set_index("measure")
    assert same.loc["frechet", "value"] == pytest.approx(0, abs=1e-9)
    assert same.loc["precision", "value"] == same.loc["recall", "value"] == 1
    with pytest.raises(InvalidQuery, match="too few"):
        prototypes.compare_sets(["Rutile", "Spinel"], "nelements = 2", models=[MODEL])
