"""Every named query answers on a real store, and each answer is held to something independent."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from pymatgen.core import Composition
from typer.testing import CliRunner

from platonic_store.cli import app
from platonic_store.errors import InvalidQuery, ModelNotFound
from platonic_store.sql import cookbook
from platonic_store.store import Store

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def store(prototypes_path, tmp_path_factory) -> Store:
    """The prototypes, scored, with a volume an atom and a made-up energy above the hull."""
    copy = shutil.copytree(prototypes_path, tmp_path_factory.mktemp("cookbook") / "own.store")
    opened = Store.open(copy)
    with opened._writing("volumes and energies") as writer, writer.writing() as connection:
        for statement in (
            "ALTER TABLE structures ADD COLUMN e_above_hull DOUBLE",
            "ALTER TABLE structures ADD COLUMN atomic_volume DOUBLE",
            "UPDATE structures SET e_above_hull = if(spacegroup > 190, 0, 1 / spacegroup), "
            "atomic_volume = volume / nsites",
        ):
            connection.execute(sa.text(statement))
    opened.score()
    return opened


def asked(store, name, **variables):
    return store.sql(f"@{name}", variables=variables)


def near_duplicates(store):
    found = asked(store, "near-duplicates", within=0.001)
    assert set(found.loc[0, ["structure_id", "other"]]) == {"Pyrite", "pyrite"}
    assert len(found) < len(asked(store, "near-duplicates", within=0.01))
    assert found["distance"].max() <= 0.001


def duplicate_groups(store):
    found = asked(store, "duplicate-groups")
    members = found["members"].explode()
    assert members.is_unique
    pairs = asked(store, "near-duplicates")
    assert set(members) == {*pairs["structure_id"], *pairs["other"]}
    assert found["structures"].sum() == len(members)


def nearest_stable(store):
    found = asked(store, "nearest-stable", k=2)
    first = found[found["structure_id"] == "Ilmenite"]
    alone = store.similar("Ilmenite", k=2, where="e_above_hull <= 0")
    assert first["stable"].tolist() == alone["structure_id"].tolist()
    assert (found["e_above_hull"] > 0).all()
    assert (found["stable_spacegroup"] > 190).all()


def collapsed_polymorphs(store):
    found = asked(store, "collapsed-polymorphs")
    assert "rhombohedral graphite" in set(found["other"])
    assert (found["spacegroup"] != found["other_spacegroup"]).all()


def collapsed_by_one_model(store):
    found = asked(store, "collapsed-by-one-model", times=2.5)
    assert "alpha Pu" in set(found["structure_id"])
    assert found["collapsed_units"].max() <= 0.5
    assert (found["other_units"] / found["collapsed_units"]).min() >= 2.5


def novel_chemistry(store):
    found = asked(store, "novel-chemistry")
    kinds = {
        id_: Composition(formula).anonymized_formula
        for id_, formula in store.sql("SELECT structure_id, formula FROM structure").itertuples(
            index=False
        )
    }
    near = store.neighbours(k=10)
    is_known = near["structure_id"].map(kinds) == near["neighbour"].map(kinds)
    assert set(found["structure_id"]) == set(near["structure_id"]) - set(
        near["structure_id"][is_known]
    )


def substitution_candidates(store):
    found = asked(store, "substitution-candidates", element="Ti")
    assert found["closest"].tolist() == ["TiAl3 → ZrAl3"]
    assert found["substitute"].tolist() == ["Zr"]


def lookalikes_without(store):
    found = asked(store, "lookalikes-without")
    assert found["formula"].map(lambda text: "Pb" in Composition(text)).all()
    assert not found["other_formula"].map(lambda text: "Pb" in Composition(text)).any()


def knn_error(store):
    found = asked(store, "knn-error", property="atomic_volume").iloc[0]
    assert found["r2"] > 0.5
    assert found["mae"] < found["mae_of_the_mean"] / 2


def property_cliffs(store):
    found = asked(store, "property-cliffs", property="atomic_volume")
    values = store.sql("SELECT structure_id, volume / nsites AS v FROM structure").set_index(
        "structure_id"
    )["v"]
    differences = (found["structure_id"].map(values) - found["other"].map(values)).abs()
    np.testing.assert_allclose(found["difference"], differences)
    assert found["difference"].is_monotonic_decreasing


def coverage(store):
    found = asked(store, "coverage", fewer=10**6)
    assert found["atoms"].sum() == store.sql("SELECT sum(nsites) AS n FROM structure")["n"][0]
    assert asked(store, "coverage", fewer=5)["sites"].max() == 4


def spacegroup_consistency(store):
    found = asked(store, "spacegroup-consistency")
    assert found["structures"].min() >= 10
    assert (found["same"] > found["by_chance"]).mean() > 0.5


def neighbour_agreement(store):
    itself = asked(store, "neighbour-agreement", other="sevennet-0").iloc[0]
    assert itself["overlap"] == itself["same_nearest"] == 1
    found = asked(store, "neighbour-agreement").iloc[0]
    assert found["other"] == "chgnet-0.3.0"
    assert 10 * found["by_chance"] < found["overlap"] < 1


def elements_by_disagreement(store):
    found = asked(store, "elements-by-disagreement", k=5)
    one, two = (
        store.neighbours(model=model, k=5).groupby("structure_id")["neighbour"].agg(set)
        for model in ("sevennet-0", "chgnet-0.3.0")
    )
    titanium = store.sql("SELECT structure_id FROM structure WHERE list_contains(elements, 'O')")[
        "structure_id"
    ]
    shared = [1 - len(one[i] & two[i]) / 5 for i in titanium if i in one and i in two]
    oxygen = found[found["element"] == "O"].iloc[0]
    assert oxygen["disagreement"] == pytest.approx(np.mean(shared))
    assert oxygen["structures"] == len(shared)


def typical_to_one_model(store):
    found = asked(store, "typical-to-one-model", typical=0.4, atypical=0.25)
    p = store.sql("FROM typicality").pivot(index="structure_id", columns="model", values="p")
    wanted = p[(p["sevennet-0"] >= 0.4) & (p["chgnet-0.3.0"] <= 0.25)].index
    oxides = store.sql("SELECT structure_id FROM structure WHERE list_contains(elements, 'O')")[
        "structure_id"
    ]
    assert set(found["structure_id"]) == set(wanted) & set(oxides)
    assert len(found) > 0


def consensus_outliers(store):
    found = asked(store, "consensus-outliers").set_index("structure_id")
    p = (
        store.sql("FROM typicality")
        .pivot(index="structure_id", columns="model", values="p")
        .max(axis=1)
    )
    assert found["largest_p"].to_dict() == p[p <= 0.05].to_dict()
    assert (found["models"] == 2).all()


def disagreed_on(store):
    found = asked(store, "disagreed-on", atypical=0.1).set_index("structure_id")
    agreement = store.sql("FROM atom_agreement").set_index(["structure_id", "site_index"])
    least = agreement["agreement"].groupby("structure_id").min()
    np.testing.assert_allclose(found["disagreement"], 1 - least[found.index])
    assert 0 < len(found) < 0.25 * len(least)


def outlier_sites(store):
    found = asked(store, "outlier-sites", k=1)
    sites = store.sql("FROM atom_typicality WHERE model = 'sevennet-0'")
    lowest = sites.groupby("element")["p"].min()
    assert found.set_index("element")["p"].to_dict() == lowest.to_dict()


def hubs(store):
    counts = store.neighbours(k=10)["neighbour"].value_counts()
    assert asked(store, "hubs")["times"].tolist() == counts.head(100).tolist()


def isolated(store):
    near = store.neighbours(k=1)
    farthest = near["structure_id"][near["distance"] == near["distance"].max()]
    assert asked(store, "isolated")["structure_id"][0] in set(farthest)


def alike_without_common_element(store):
    found = asked(store, "alike-without-common-element")
    shared = found["formula"].map(lambda text: set(Composition(text))).to_numpy()
    others = found["other_formula"].map(lambda text: set(Composition(text))).to_numpy()
    assert len(found) > 10
    assert not any(shared & others)


def retrieval(store):
    found = asked(store, "retrieval").iloc[0]
    near = store.neighbours(across="chgnet-0.3.0", k=10)
    own = near[near["structure_id"] == near["neighbour"]]
    assert found["recall_10"] == len(own) / near["structure_id"].nunique()
    assert found["recall_1"] == (own["rank"] == 1).sum() / near["structure_id"].nunique()


def alignment_matrix(store):
    found = asked(store, "alignment-matrix", atoms=100, measure="cka")
    by_python = store.align(["chgnet-0.3.0", "sevennet-0"], atoms=100)
    cka = by_python[by_python["measure"] == "cka"]
    assert found["value"].tolist() == cka["value"].tolist()
    assert len(found) == 1


def elements_by_force_spread(store):
    found = asked(store, "elements-by-force-spread", atoms=1).set_index("element")
    atoms = store.committee(level="atom", k=10_000).groupby("element")[["spread", "force"]]
    expected = atoms.median().loc[found.index]
    assert np.allclose(found[["spread", "force"]], expected)
    assert found["spread"].is_monotonic_decreasing
    assert len(asked(store, "elements-by-force-spread", atoms=8)) < len(found)


def worth_computing(store):
    found = asked(store, "worth-computing", candidates="nsites > 12")
    whole = store.screen("nsites > 12").set_index("candidate")
    assert set(found["class"]) <= {"frontier", "covered"}
    assert len(found) == whole["class"].isin(["frontier", "covered"]).sum()
    assert found["rank"].is_monotonic_increasing
    assert whole.loc[found["candidate"], "rank"].tolist() == found["rank"].tolist()


def not_embedded(store):
    held = store.sql("SELECT model, count(*) AS n FROM quarantine GROUP BY model ORDER BY model")
    found = asked(store, "not-embedded").groupby("model")["records"].sum()
    assert found.tolist() == held["n"].tolist()


CHECKS = [
    near_duplicates,
    duplicate_groups,
    nearest_stable,
    collapsed_polymorphs,
    collapsed_by_one_model,
    novel_chemistry,
    substitution_candidates,
    lookalikes_without,
    knn_error,
    property_cliffs,
    coverage,
    spacegroup_consistency,
    neighbour_agreement,
    elements_by_disagreement,
    typical_to_one_model,
    consensus_outliers,
    outlier_sites,
    disagreed_on,
    hubs,
    isolated,
    alike_without_common_element,
    retrieval,
    alignment_matrix,
    elements_by_force_spread,
    not_embedded,
    worth_computing,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_answer_is_right(store, check):
    check(store)


def test_every_query_is_checked():
    names = {check.__name__.replace("_", "-") for check in CHECKS}
    assert names == {entry.name for entry in cookbook.entries()}


@pytest.mark.parametrize(
    ("name", "variables", "said"),
    [
        ("near-duplicate", {}, "near-duplicates"),
        ("near-duplicates", {"limit": 3}, "within"),
        ("knn-error", {}, "band_gap"),
        ("knn-error", {"property": "mineral"}, "VARCHAR"),
        ("near-duplicates", {"within": "near"}, "near"),
    ],
)
def test_wrong_questions_have_one_line(store, name, variables, said):
    with pytest.raises(InvalidQuery, match=said) as raised:
        asked(store, name, **variables)
    assert "\n" not in str(raised.value)


def test_scores_that_are_not_there_are_asked_for(prototypes):
    with pytest.raises(InvalidQuery, match="needs stored scores"):
        asked(prototypes, "outlier-sites")


def test_models_are_called_as_everywhere(store):
    assert len(asked(store, "isolated", model="CHGNet")) > 0
    with pytest.raises(ModelNotFound):
        asked(store, "isolated", model="nothing-of-the-kind")


def test_commands_list_and_run_them(store):
    listed = CliRunner().invoke(app, ["sql", "--list", "--format", "csv"]).stdout
    assert "@near-duplicates" in listed
    arguments = ["--set", "within=0.001", "--store", str(store.path), "--format", "csv"]
    printed = CliRunner().invoke(app, ["sql", "@near-duplicates", *arguments]).stdout
    assert len(printed.splitlines()) == 1 + len(asked(store, "near-duplicates", within=0.001))
