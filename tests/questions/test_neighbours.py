import numpy as np
import pytest
from typer.testing import CliRunner

from platonic_store.cli import app
from platonic_store.errors import InvalidQuery


def of(found, **keys):
    for name, value in keys.items():
        found = found[found[name] == value]
    return found


@pytest.mark.parametrize("arguments", [{}, {"across": "chgnet-0.3.0"}, {"where": "nsites > 4"}])
def test_all_at_once_is_each_one_by_one(prototypes, arguments):
    found = prototypes.neighbours(k=4, **arguments)
    assert found["structure_id"].nunique() == len(prototypes.embeddings(level="structure"))
    for id_ in ("Spinel", "Ilmenite", "Perovskite"):
        one, alone = of(found, structure_id=id_), prototypes.similar(id_, k=4, **arguments)
        assert one["neighbour"].tolist() == alone["structure_id"].tolist()
        assert one["rank"].tolist() == [1, 2, 3, 4]
        np.testing.assert_allclose(one["distance"], alone["distance"], atol=1e-12)


def test_atoms_stand_for_their_equivalent_sites(prototypes):
    found = prototypes.neighbours(k=3, level="atom")
    distinct = prototypes.sql(
        "SELECT count(*) AS n FROM site WHERE site_index = orbit AND structure_id IN "
        f"(SELECT unnest({found['structure_id'].unique().tolist()}))"
    )
    assert len(found) == 3 * distinct["n"][0]
    one, alone = (
        of(found, structure_id="Spinel", site_index=6),
        prototypes.similar("Spinel", site=6, k=3),
    )
    assert one["neighbour"].tolist() == alone["structure_id"].tolist()
    assert one["neighbour_site"].tolist() == alone["site_index"].tolist()


def test_those_that_may_not_answer_still_ask(prototypes):
    found = prototypes.neighbours(k=1, where="structure_id = 'Spinel'")
    assert set(found["neighbour"]) == {"Spinel"}
    assert "Spinel" not in set(found["structure_id"])  # it has no other
    assert found["structure_id"].nunique() > 200


def test_sql_joins_them(prototypes):
    mutual = prototypes.sql(
        "WITH near AS (FROM neighbours(model := 'chgnet-0.3.0', k := 1)) "
        "SELECT a.structure_id, b.structure_id AS other FROM near AS a JOIN near AS b "
        "ON a.neighbour = b.structure_id AND b.neighbour = a.structure_id"
    )
    found = prototypes.neighbours(model="chgnet-0.3.0", k=1).set_index("structure_id")["neighbour"]
    assert len(mutual) == (found.map(found) == found.index).sum() > 0
    oxygen = "\"where\" := 'element = ''O'''"
    atoms = prototypes.sql(f"FROM neighbours(level := 'atom', k := 2, {oxygen})")
    elements = prototypes.sql("SELECT structure_id, site_index, element FROM site")
    answered = atoms.merge(
        elements, left_on=["neighbour", "neighbour_site"], right_on=["structure_id", "site_index"]
    )
    assert set(answered["element"]) == {"O"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"k": 0}, "at least 1"),
        ({"level": "bond"}, "atom"),
        ({"where": "nsites > 1000"}, "no rows"),
    ],
)
def test_wrong_questions_have_one_line(prototypes, arguments, said):
    with pytest.raises(InvalidQuery, match=said):
        prototypes.neighbours(**arguments)


def test_the_command_prints_them(prototypes):
    arguments = ["neighbours", "--store", str(prototypes.path), "-k", "1", "--format", "csv"]
    printed = CliRunner().invoke(app, arguments).stdout.splitlines()
    assert printed[0] == "structure_id,rank,neighbour,distance"
    assert len(printed) - 1 == prototypes.neighbours(k=1)["structure_id"].nunique()
