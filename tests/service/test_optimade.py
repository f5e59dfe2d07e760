"""/optimade by a real server, read by the validator and by the clients that people use."""

import contextlib
from urllib.parse import quote

import numpy as np
import pytest
import requests
import schemathesis
from ase.build import bulk, molecule
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from optimade.exceptions import BadRequest, NotImplementedResponse
from optimade.models import StructureResource, StructureResponseMany
from serving import serving

from platonic_store.service.app import create_app
from platonic_store.service.optimade.entries import page
from platonic_store.service.optimade.filters import condition
from platonic_store.service.optimade.properties import properties, relation
from platonic_store.service.settings import Settings
from platonic_store.store import Store

# optimade-python-tools' models ask instances of pydantic for what belongs to their classes.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_fields':DeprecationWarning")


@pytest.fixture
def base(service):
    return f"{service}/optimade"


@pytest.fixture(scope="module")
def known(prototypes):
    return properties(prototypes.snapshot())


def matched(prototypes, known, text: str) -> set[str]:
    sql = condition(text, known).sql
    return {
        id_
        for (id_,) in prototypes.snapshot().rows(
            f"SELECT s.structure_id FROM {relation(sql)} WHERE {sql}"
        )
    }


def by_python(prototypes, test) -> set[str]:
    frame = prototypes.sql("FROM structure")
    return {row.structure_id for row in frame.itertuples() if test(row)}


def test_the_validator_passes(base, capsys):
    from optimade.validator import ImplementationValidator

    validator = ImplementationValidator(base_url=f"{base}/v1", verbosity=-1)
    validator.validate_implementation()
    assert validator.valid, capsys.readouterr().out
    assert validator.results.optional_failure_count == 0


def test_every_entry_is_as_the_models_say(base, prototypes):
    answer = requests.get(f"{base}/v1/structures?page_limit=1000").json()
    StructureResponseMany(**answer)
    for entry in answer["data"]:
        StructureResource(**entry)
    assert len(answer["data"]) == answer["meta"]["data_returned"] == 288
    assert answer["meta"]["_platonic_snapshot"] == prototypes.snapshot().id


def test_pymatgen_reads_the_structures_that_went_in(base):
    from pymatgen.ext.optimade import OptimadeRester

    from platonic_store.structures.builtin import records

    with contextlib.redirect_stdout(None):
        (found,) = (
            OptimadeRester(f"{base}/", timeout=30).get_structures_with_filter("nsites<4").values()
        )
    crystals = {one.id: one for one in records()}
    assert len(found) > 30
    for id_, structure in found.items():
        assert list(structure.atomic_numbers) == crystals[id_].numbers.tolist()
        assert np.allclose(structure.cart_coords, crystals[id_].positions)
        assert np.allclose(structure.lattice.matrix, crystals[id_].cell)


def test_optimade_get_follows_the_pages(base):
    from optimade.client import OptimadeClient

    client = OptimadeClient(base_urls=[base], max_results_per_provider=1000, silent=True)
    found = client.get("nelements=2", response_fields=["nsites"])["structures"]["nelements=2"][base]
    assert found["errors"] == []
    assert (
        len({one["id"] for one in found["data"]})
        == client.count("nelements=2")["structures"]["nelements=2"][base]
    )


@pytest.mark.parametrize(
    ("text", "test"),
    [
        ('elements HAS "Ti"', lambda s: "Ti" in s.elements),
        ('elements HAS ALL "Ti", "O"', lambda s: {"Ti", "O"} <= set(s.elements)),
        ('elements HAS ANY "Ti", "O"', lambda s: bool({"Ti", "O"} & set(s.elements))),
        ('elements HAS ONLY "Ti", "O"', lambda s: set(s.elements) <= {"Ti", "O"}),
        ('NOT elements HAS "Ti"', lambda s: "Ti" not in s.elements),
        ("elements LENGTH 3", lambda s: len(s.elements) == 3),
        ("elements LENGTH >= 3", lambda s: len(s.elements) >= 3),
        ("nsites<5 AND nelements=2 OR nsites=24", lambda s: (s.nsites < 5 and s.nelements == 2)
         or s.nsites == 24),
        ("NOT (nsites<5 OR nelements!=2)", lambda s: s.nsites >= 5 and s.nelements == 2),
        ("10 <= nsites", lambda s: s.nsites >= 10),
        ("_platonic_volume > 1.0e2", lambda s: s.volume > 100),
        ('id STARTS WITH "S"', lambda s: s.structure_id.startswith("S")),
        ('id ENDS "e" AND id CONTAINS "i"', lambda s: s.structure_id.endswith("e")
         and "i" in s.structure_id),
        ("nsites = nelements", lambda s: s.nsites == s.nelements),
        ("_platonic_mineral IS UNKNOWN", lambda s: not isinstance(s.mineral, str)),
        ('NOT _platonic_mineral = "Spinel"', lambda s: isinstance(s.mineral, str)
         and s.mineral != "Spinel"),
        ("_exmpl_gap > 1 OR NOT _exmpl_gap > 1", lambda s: False),
        ("_exmpl_gap IS UNKNOWN", lambda s: True),
        ("space_group_it_number = 225", lambda s: s.spacegroup == 225),
        ('last_modified > "2026-01-01T00:00:00+01:00"', lambda s: True),
        ("dimension_types HAS 0", lambda s: False),
        ("structure_features LENGTH 0", lambda s: True),
        ('assemblies HAS "x" OR chemical_formula_hill = "HO"', lambda s: False),
    ],
)  # fmt: skip
def test_a_filter_matches_what_python_matches(prototypes, known, text, test):
    assert matched(prototypes, known, text) == by_python(prototypes, test)


def test_formulas_and_ratios(prototypes, known):
    from pymatgen.core import Composition

    formulas = prototypes.sql("SELECT structure_id, formula FROM structure")
    rutile = formulas.loc[formulas["formula"] == "TiO2", "structure_id"]
    assert matched(prototypes, known, 'chemical_formula_reduced="O2Ti"') == set(rutile)
    oxygen = matched(prototypes, known, 'elements:elements_ratios HAS "O":>0.6')
    assert oxygen == {
        row.structure_id
        for row in formulas.itertuples()
        if Composition(row.formula).get_atomic_fraction("O") > 0.6
    }
    anonymous = {
        row.structure_id
        for row in formulas.itertuples()
        if sorted(Composition(row.formula).as_reduced_dict().values()) == [1, 2]
    }
    assert matched(prototypes, known, '"A2B" = chemical_formula_anonymous') == anonymous


def test_strings_are_data(prototypes, known):
    text = """it's "so" \\ --"""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    sql = condition(f'id = "{escaped}"', known).sql
    assert prototypes.snapshot().rows(f"SELECT {sql.split(' = ')[1].rstrip(')')}") == [(text,)]


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("structures?filter=crazyfield=2", 400, "no property crazyfield"),
        ("structures?filter=_platonic_crazy=2", 400, "no property _platonic_crazy"),
        ("structures?filter=nsites = = 2", 400, "character 10"),
        ("structures?filter=nsites=2 nsites=3", 400, "without AND or OR"),
        (f"structures?filter={'(' * 65}nsites=2{')' * 65}", 400, "64 parentheses"),
        (f"structures?filter={'nsites=2 OR ' * 400}nsites=2", 400, "at most 4096"),
        ('structures?filter=last_modified="yesterday"', 400, "no time"),
        ('structures?filter=nsites="2"', 501, "of type integer, not string"),
        ('structures?filter=elements="Ti"', 501, "HAS"),
        ('structures?filter=nsites HAS 2', 501, "no list"),
        ('structures?filter="a"="a"', 501, "two constants"),
        ('structures?filter=species.name HAS "Ti"', 501, "names within names"),
        ("structures?filter=nsites=1e999", 501, "range"),
        ("structures?response_format=xml", 400, "only json"),
        ("structures?response_fields=crazy", 400, "no property crazy"),
        ("structures?include=calculations", 400, "calculations"),
        ("structures?crazy=1", 400, "no parameter crazy"),
        ("structures?sort=elements", 400, "not sorted by elements"),
        ("structures?page_limit=1001", 403, "at most 1000"),
        ("structures?page_limit=0", 400, "page_limit"),
        ("extensions/similar?id=nothing", 404, "nothing"),
        ("extensions/similar?id=Spinel&model=gpt", 400, "gpt"),
        ("calculations", 404, "nothing at"),
        ("versions", 404, "nothing at"),
    ],
)  # fmt: skip
def test_a_mistake_is_an_error_of_optimade(base, path, status, reason):
    route, _, query = path.partition("?")
    answer = requests.get(f"{base}/v1/{route}?{quote(query, safe='=&')}")
    assert answer.status_code == status, answer.text
    (error,) = answer.json()["errors"]
    assert error["status"] == str(status)
    assert reason in error["detail"]
    assert answer.json()["meta"]["api_version"] == "1.2.0"


def test_another_version(base):
    assert requests.get(f"{base}/v2/info").status_code == 553
    assert requests.get(f"{base}/versions").text == "version\n1\n"


def test_what_others_call_theirs_is_unknown_with_a_warning(base):
    answer = requests.get(f"{base}/v1/structures?filter=_exmpl_x=1&_exmpl_key=2").json()
    assert answer["data"] == []
    assert "_exmpl_x" in answer["meta"]["warnings"][0]["detail"]


def test_pages_sorted_by_a_property(base, prototypes):
    url, ids = f"{base}/v1/structures?sort=-nsites&response_fields=nsites&page_limit=100", []
    sites = []
    while url:
        answer = requests.get(url).json()
        ids += [one["id"] for one in answer["data"]]
        sites += [one["attributes"]["nsites"] for one in answer["data"]]
        url = answer["links"]["next"]
    assert len(ids) == len(set(ids)) == 288
    assert sites == sorted(sites, reverse=True)


def test_similar_is_the_question_with_a_filter(base, prototypes):
    answer = requests.get(
        f"{base}/v1/extensions/similar",
        params={"id": "Spinel", "filter": "nelements=3", "page_limit": 5},
    ).json()
    expected = prototypes.similar("Spinel", k=5, where="nelements = 3")
    assert [one["id"] for one in answer["data"]] == expected["structure_id"].tolist()
    distances = [one["attributes"]["_platonic_distance"] for one in answer["data"]]
    assert distances == expected["distance"].tolist()


def test_an_entry_that_is_not_here_is_null(base):
    assert requests.get(f"{base}/v1/structures/nothing").json()["data"] is None
    found = requests.get(f"{base}/v1/structures/{quote('(La,Ba)CuO4')}").json()
    assert found["data"]["id"] == "(La,Ba)CuO4"


def test_a_service_at_its_limit_says_so_as_optimade_does(prototypes):
    with serving(create_app(prototypes, Settings(models=(), queue=0))) as url:
        answer = requests.get(f"{url}/optimade/v1/structures")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert "as much to answer" in answer.json()["errors"][0]["detail"]


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A snapshot of structures whose properties and cells are not what others' are."""
    salt = bulk("NaCl", "rocksalt", a=5.64)
    salt.info = {"Band gap (eV)": 5.0, "band_gap_ev": 1, "stable": True, "note": "it's"}
    water = molecule("H2O")
    water.info = {"Band gap (eV)": float("nan"), "stable": False}
    store = Store.open(tmp_path_factory.mktemp("odd") / "odd.store")
    store.ingest({"salt": salt, "water": water})
    return store.snapshot()


def test_names_types_and_cells_that_are_not_usual(odd):
    found = {one["id"]: one["attributes"] for one in page(odd, limit=10).entries}
    for id_, attributes in found.items():
        StructureResource(id=id_, type="structures", attributes=attributes)
    salt, water = found["salt"], found["water"]
    assert (salt["_platonic_band_gap_ev"], salt["_platonic_band_gap_ev_2"]) == (5.0, 1)
    assert water["_platonic_band_gap_ev"] is None
    assert salt["dimension_types"] == [1, 1, 1]
    assert water["dimension_types"] == [0, 0, 0]
    assert water["lattice_vectors"] == [[None] * 3] * 3
    assert (water["nperiodic_dimensions"], water["space_group_it_number"]) == (0, None)
    assert water["chemical_formula_anonymous"] == "A2B"
    described = properties(odd)
    assert described["_platonic_stable"].type == "boolean"
    assert described["_platonic_band_gap_ev"].type == "float"


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("_platonic_stable = TRUE", ["salt"]),
        ("_platonic_stable != TRUE", ["water"]),
        ("_platonic_band_gap_ev > 0 OR _platonic_band_gap_ev <= 0", ["salt"]),
        ("_platonic_band_gap_ev IS UNKNOWN", ["water"]),
        ('_platonic_note CONTAINS "\'"', ["salt"]),
        ("nperiodic_dimensions < 3", ["water"]),
        ("dimension_types HAS ALL 0", ["water"]),
        ('elements:elements_ratios HAS ANY "H":>0.6, "Cl":>0.6', ["water"]),
        ('elements:elements_ratios HAS ONLY "H":>0.6, "O":<0.4', ["water"]),
        ('elements HAS ANY "O", "X" AND NOT elements HAS "Na"', ["water"]),
    ],
)
def test_filters_of_what_is_not_usual(odd, text, ids):
    assert [one["id"] for one in page(odd, filter=text, limit=10).entries] == ids


def test_a_boolean_has_no_order(odd):
    with pytest.raises(NotImplementedResponse, match="true or false"):
        condition("_platonic_stable > FALSE", properties(odd))


def _filters():
    """Filters of every form, of properties and values of all types, often of matching ones."""
    name = st.sampled_from(
        [
            *("id", "type", "nsites", "nelements", "elements", "elements_ratios", "last_modified"),
            *("chemical_formula_reduced", "dimension_types", "lattice_vectors", "assemblies"),
            *("species_at_sites", "immutable_id", "_platonic_stable", "_exmpl_other", "nothing"),
        ]
    )
    operator = st.sampled_from(["<", "<=", ">", ">=", "=", "!="])
    text = st.text("aTi O'%_#@{}é", max_size=5).map(lambda text: f'"{text}"')
    number = st.one_of(st.integers(-9, 10**20), st.floats(-1e300, 1e300)).map(str)
    moment = st.just('"2026-01-01T00:00:00Z"')
    value = st.one_of(text, number, moment, st.sampled_from(["TRUE", "FALSE"]), name)
    several = st.lists(value, min_size=1, max_size=3).map(", ".join)
    forms = {
        "{name} {operator} {value}": (name, operator, value),
        "{value} {operator} {name}": (name, operator, st.one_of(text, number)),
        "{name} {operator} {value} ": (st.just("chemical_formula_reduced"), operator, text),
        "{name} STARTS WITH {value}": (name, operator, value),
        "{name} IS UNKNOWN": (name, operator, value),
        "{name} HAS {value}": (name, operator, value),
        "{name} HAS ALL {value}": (name, operator, several),
        "{name} HAS ONLY {operator} {value}": (name, operator, several),
        "{name} LENGTH {operator} {value}": (name, operator, st.integers(-1, 9).map(str)),
        "elements:{name} HAS ANY {operator} {value}:{operator} 0.5": (name, operator, text),
    }
    comparison = st.one_of(
        *(
            st.builds(
                lambda form, n, o, v: form.format(name=n, operator=o, value=v), st.just(form), *of
            )
            for form, of in forms.items()
        )
    )
    return st.recursive(
        comparison,
        lambda inner: st.one_of(
            inner.map(lambda one: f"NOT ({one})"),
            st.builds(
                lambda a, word, b: f"({a}) {word} {b}", inner, st.sampled_from(["AND", "OR"]), inner
            ),
        ),
        max_leaves=3,
    )


@given(_filters())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_filter_is_answered_or_refused(odd, text):
    try:
        sql = condition(text, properties(odd)).sql
    except (BadRequest, NotImplementedResponse):
        return
    assert odd.rows(f"SELECT count(*) FROM {relation(sql)} WHERE {sql}")


def test_no_request_that_is_described_breaks_it(service):
    described = requests.get(f"{service}/openapi.json").json()
    described["paths"] = {
        path: methods for path, methods in described["paths"].items() if "optimade" in path
    }
    assert len(described["paths"]) == 7
    operations = schemathesis.openapi.from_dict(described).get_all_operations()
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    cases = [one.ok() for one in operations]

    @settings(max_examples=60, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(st.one_of(*(c.as_strategy(generation_mode=mode) for c in cases for mode in modes)))
    def asked(case):
        answer = case.call(base_url=service)
        assert answer.status_code in (200, 400, 403, 404, 405, 501), answer.text

    asked()


def test_the_base_leads_to_what_is_served(base):
    for path in ("", "/", "/v1", "/v1/"):
        assert requests.get(f"{base}{path}").json()["data"]["type"] == "info"
