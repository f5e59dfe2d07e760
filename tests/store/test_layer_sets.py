"""Spaces that take several layers of a model side by side."""

import numpy as np
import pytest
import sqlalchemy as sa
from store_fakes import content, crystals

from platonic_store.errors import InvalidQuery, LayerNotFound, worded
from platonic_store.geometry.consensus import Joining
from platonic_store.geometry.projection import project
from platonic_store.jobs.project import fit_again
from platonic_store.storage import layer_sets, lookup
from platonic_store.storage import tables as t
from platonic_store.storage.side_points import side_points
from platonic_store.storage.snapshot import ModelLayer
from platonic_store.store import Store

pytestmark = pytest.mark.usefixtures("fakes")
POOL = crystals(30)
SIDES = ["fake-a@0+1", "fake-b@0+1"]


@pytest.mark.parametrize("layers", [(0,), (7,), (0, 1), (1, 4, 11)])
def test_a_set_has_a_number_and_a_text(layers):
    number = layer_sets.number_of(reversed(layers))
    assert layer_sets.layers_of(number) == layers
    assert layer_sets.read(layer_sets.text_of(number)) == number
    assert number >= 0 or len(layers) > 1


def test_what_is_no_set():
    assert [layer_sets.read(text) for text in ("", "a", "1+", "-3", "0-1")] == [None] * 5


@pytest.fixture
def spaced(store):
    store.ingest(POOL, ["fake-a", "fake-b"], layers="all")
    store.select_anchors("random", 40)
    store.project(SIDES)
    return store


def test_coordinates_are_of_the_layers_side_by_side(spaced):
    snapshot = spaced.snapshot()
    ((space, *_),) = snapshot.spaces
    side = lookup.side_in(snapshot, space, "fake-a")
    assert str(side) == "fake-a@0+1"
    assert side.layers == [ModelLayer("fake-a", 0), ModelLayer("fake-a", 1)]
    points = side_points(snapshot, side)
    assert points.vectors.shape[1] == 16
    there = snapshot.points(lookup.vector_table(snapshot, side, "atom", space))
    order = [
        np.lexsort((one.column("site_index"), one.column("structure_id")))
        for one in (points, there)
    ]
    fitted = lookup.projection(snapshot, space, side)
    np.testing.assert_allclose(
        there.vectors[order[1]], project(fitted, points.vectors[order[0]]), atol=1e-3
    )
    assert spaced.sql("SELECT side FROM projection ORDER BY side")["side"].tolist() == SIDES
    layers = spaced.sql("SELECT layers FROM projection")["layers"].map(list).tolist()
    assert layers == [[0, 1]] * 2


def test_questions_find_them_by_name(spaced):
    id_ = next(iter(POOL))
    by_set = spaced.similar(id_, model="fake-a@0+1", k=5)
    assert by_set.equals(spaced.similar(id_, model="fake-a", space="aligned", k=5))
    across = spaced.similar(id_, model="fake-a", across="fake-b@0+1", k=5)
    assert across.equals(spaced.similar(id_, model="fake-a", across="fake-b", k=5))
    assert not by_set.equals(spaced.similar(id_, model="fake-a", k=5))
    with pytest.raises(LayerNotFound, match="fake-a@0"):
        spaced.score(["fake-a@0+1"])
    with pytest.raises(LayerNotFound, match="not 2"):
        spaced.similar(id_, model="fake-a@0+2")
    with pytest.raises(InvalidQuery, match="one layer"):
        spaced.project(SIDES, recipe="cosine")


def test_a_space_of_some_models_alone_is_used_where_it_is_named(spaced):
    id_ = next(iter(POOL))
    ask = {"model": "fake-a", "across": "fake-b", "k": 30}
    shared, before = spaced.snapshot().spaces[0][0], spaced.similar(id_, **ask)
    (one, other) = spaced.project(SIDES, recipe="alone")
    assert one.space == other.space != shared
    assert [row.new_atoms for row in spaced.project(SIDES, recipe="alone")] == [0, 0]
    assert spaced.similar(id_, **ask).equals(before)
    assert spaced.similar(id_, **ask, space="alone").equals(
        spaced.similar(id_, **ask, space=one.space)
    )
    assert {row.space for row in spaced.project()} == {shared}
    with pytest.raises(InvalidQuery, match="two models or more") as raised:
        spaced.project(["fake-a"], recipe="alone")
    assert "recipe='alone'" in worded(raised.value.hint)


def test_a_layer_that_came_later_joins_by_structure(tmp_path, spaced):
    later = Store.open(tmp_path / "later.store")
    half = dict(list(POOL.items())[:13])
    later.ingest(half, ["fake-a", "fake-b"], layers="1")
    later.ingest(POOL, ["fake-a"], layers="all")
    later.ingest(POOL, ["fake-b"], layers="all")
    later.select_anchors("random", 40)
    later.project(SIDES)
    assert content(later) == content(spaced)


@pytest.mark.parametrize("kept", [None, 0.01])
def test_a_space_of_an_older_program_is_joined_as_then(spaced, kept):
    """By the width of the consensus; of the penalty a part that was kept, or all of it."""
    (space, *_) = spaced.snapshot().spaces[0]
    side = lookup.side_in(spaced.snapshot(), space, "fake-a")
    now = lookup.projection(spaced.snapshot(), space, side)
    with spaced._writing("as an older program") as writer:
        with writer.writing() as connection:
            (record,) = connection.scalars(sa.select(t.spaces.c.agreement)).all()
            older = record | {"joining": kept}
            connection.execute(sa.update(t.spaces).values(agreement=older))
        writer.publish()
        fit_again(writer)
    then = lookup.projection(spaced.snapshot(), space, side)
    assert then.width == pytest.approx(now.width / Joining().width)


def test_structures_that_lack_a_layer_wait_for_it(store):
    store.ingest(POOL, ["fake-a", "fake-b"], layers="all")
    store.select_anchors("random", 40)
    store.project(SIDES)
    more = {f"more-{id_}": one for id_, one in crystals(6, seed=9).items()}
    store.ingest(more, ["fake-a"], layers="1")
    store.ingest(more, ["fake-a"], layers="0")
    assert sum(one.new_atoms for one in store.project(["fake-a"])) == sum(map(len, more.values()))
    assert all(one.new_atoms == 0 for one in store.project(["fake-a"]))
