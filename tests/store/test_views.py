"""Views are made when a query names them, and then they are all that a query can want."""

import pytest
from store_fakes import crystals

from platonic_store.errors import InvalidQuery
from platonic_store.storage import views


@pytest.fixture
def filled(store):
    store.ingest(crystals(3), ["fake-a"])
    return store


def made(store) -> list[str]:
    found = store.snapshot().connection.execute(
        "SELECT view_name FROM duckdb_views() WHERE NOT internal"
    )
    return [name for (name,) in found.fetchall()]


def test_a_query_makes_what_it_names_and_no_more(filled):
    assert made(filled) == []
    assert len(filled.sql("SELECT structure_id FROM structure")) == 3
    assert made(filled) == ["structure"]
    assert len(filled.sql('SELECT * FROM "Atom_Typicality"')) == 0
    assert "atom_scores" in made(filled)
    assert "committee" not in made(filled)


def test_what_lists_views_lists_all(filled):
    names = set(filled.sql("SHOW TABLES")["name"])
    assert names >= {"structure", "site", "committee", "crystals", "kin"}


def test_a_wrong_name_is_compared_with_all(filled):
    with pytest.raises(InvalidQuery, match="structure"):
        filled.sql("FROM structuer")


def test_each_can_be_made_by_itself(filled):
    for name in views.named(None):
        made_by_itself = filled._reader.open(filled.snapshot().manifest)
        made_by_itself.cursor(name)


def test_threads_make_the_same_view_once(filled):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        counts = pool.map(lambda _: len(filled.sql("FROM typicality")), range(32))
    assert set(counts) == {0}
