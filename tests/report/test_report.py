"""The page that `report` writes: whole, offline, and with the questions' own numbers."""

from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from ase.build import bulk
from pandas.testing import assert_frame_equal

from platonic_store.errors import ModelNotFound, worded
from platonic_store.report.sections import SECTIONS
from platonic_store.store import Store


class Page(HTMLParser):
    """A page's text by section, its links, and whether its elements close."""

    VOID = ("meta", "link", "img", "br", "hr", "input")

    def __init__(self, html: str):
        super().__init__()
        self.open, self.links, self.sections, self.ids = [], [], {}, []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.links += [values[name] for name in ("href", "src") if name in values]
        if tag == "section":
            self.ids.append(values["id"])
            self.sections[values["id"]] = ""
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "section" in self.open and self.open[-1] not in ("script", "style"):
            self.sections[self.ids[-1]] += data


@pytest.fixture(scope="session")
def written(prototypes, tmp_path_factory):
    page = tmp_path_factory.mktemp("report") / "page.html"
    path = prototypes.report(page, seed=3, reference=prototypes.location.uri)
    return path, Page(path.read_text())


def numbers(path, name) -> pd.DataFrame:
    return pd.read_parquet(path.with_name("page_data") / f"{name}.parquet")


def test_the_page_is_whole_and_asks_nothing_of_the_network(written):
    path, page = written
    assert page.open == []
    assert page.links
    assert all(link.removeprefix("#") in page.ids for link in page.links)
    assert path.stat().st_size < 12e6


def test_every_section_is_there_and_has_something_to_say(written):
    _, page = written
    names = [module.__name__.rpartition(".")[2] for module in SECTIONS]
    assert page.ids == ["summary", *names, "controls", "making"]
    assert all(len(text.split()) > 10 for text in page.sections.values())


def test_panels_show_the_same_atoms_on_axes_of_their_own_coordinates(written, prototypes):
    path, _ = written
    space = numbers(path, "space")
    by_model = [rows.reset_index(drop=True) for _, rows in space.groupby("model")]
    assert len(by_model) == 2
    atoms = ["structure_id", "site_index", "element", "group"]
    assert by_model[0][atoms].equals(by_model[1][atoms])
    xy = np.concatenate([rows[["x", "y"]] for rows in by_model])
    assert np.abs(xy.mean(0)).max() < 1e-4
    assert abs(np.corrcoef(xy.T)[0, 1]) < 1e-3


def test_numbers_are_those_of_the_questions(written, prototypes):
    path, page = written
    moved = prototypes.transport("sevennet-0", "chgnet-0.3.0", atoms=1_000, seed=3)
    assert_frame_equal(numbers(path, "transport"), moved)
    judged = prototypes.typicality(model="chgnet-0.3.0").set_index("structure_id")
    found = numbers(path, "typicality").query("model == 'chgnet-0.3.0'").set_index("structure_id")
    assert found["p"].equals(judged["p"])
    assert f"{moved['own_atom'][0]:.0%} of a model's" in page.sections["summary"]


def test_what_is_in_the_reference_is_covered(written):
    path, page = written
    near = numbers(path, "coverage")
    assert near["distance"].max() < 1e-6
    assert near["lacks"].map(len).sum() == 0
    assert "these shares are far from" in page.sections["coverage"]


def test_pairs_that_every_model_names_come_first(written, prototypes):
    path, page = written
    pairs = numbers(path, "near_duplicate_pairs")
    assert pairs["models"].is_monotonic_decreasing
    first = prototypes.near_duplicates(model="sevennet-0")
    assert len(numbers(path, "near_duplicates").query("side.str.startswith('sevennet')")) == len(
        first
    )
    assert "for StructureMatcher to say" in page.sections["summary"]


def test_what_cannot_be_asked_is_said_and_the_rest_is_written(written):
    path, page = written
    assert "a numeric property" in page.sections["stitching"]
    assert "run store.ingest(SOURCE)" in page.sections["stitching"]
    reasons = numbers(path, "sections").set_index("section")["not_run_because"]
    assert reasons[reasons.notna()].index.tolist() == ["analogies", "stitching"]


def test_one_model_has_a_page_too(prototypes, tmp_path):
    path = prototypes.report(tmp_path / "page.html", models=["sevennet-0"])
    page = Page(path.read_text())
    assert "Not run here" not in page.sections["space"] + page.sections["typicality"]
    assert "out='report.html', reference=URI" in page.sections["coverage"]
    for name in ("layers", "transport"):
        assert "Not run here" in page.sections[name]
        assert "store.ingest(models=['NAME'])" in page.sections[name]


def test_what_the_source_says_is_text_and_not_markup(tmp_path):
    store = Store.open(tmp_path / "own.store")
    crystals = {
        f"<script>alert('{symbols}')</script>": bulk(symbols, "cesiumchloride", a=4.1)
        for symbols in ("CsCl", "CsBr", "CsI")
    }
    store.ingest(crystals, ["control:composition"])
    store.select_anchors(k=3)
    store.project()
    html = store.report(tmp_path / "page.html").read_text()
    assert "alert(" in html
    assert "<script>alert" not in html
    assert Page(html).open == []


def test_a_model_that_is_not_here_is_one_line(prototypes, tmp_path):
    with pytest.raises(ModelNotFound, match="no embeddings by chgnet-r2scan") as raised:
        prototypes.report(tmp_path / "page.html", models=["chgnet-r2scan"])
    assert "run `store.ingest(models=['chgnet-r2scan'])`" in worded(raised.value.hint)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "page.html").exists()
