"""A reference that is bounded: chosen by content, in any order of rows, and read back as made."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from platonic_store.questions.shared import (
    bounded_references,
    embedded_sets,
    kept_references,
    references,
    stored_references,
)
from platonic_store.storage import lookup
from platonic_store.storage.layout import Points
from platonic_store.storage.snapshot import Snapshot


@pytest.fixture
def bounds(monkeypatch) -> None:
    monkeypatch.setattr(bounded_references, "MOST_ATOMS", 8)
    monkeypatch.setattr(bounded_references, "MOST_STRUCTURES", 40)
    monkeypatch.setattr(bounded_references, "MOST_CALIBRATING", 30)


def test_bounds_hold_and_do_not_depend_on_the_order_of_rows(prototypes, bounds, monkeypatch):
    snapshot = prototypes.snapshot()
    side = lookup.model_layer(snapshot, "sevennet-0")
    found, judges = bounded_references.build_reference(snapshot, side)
    counts = found.known.sites["atomic_number"].value_counts()
    assert counts.max() == 8
    assert len(found.known.ids) == 40
    assert len(judges.ids) == (found.members["part"] == "calibration").sum() == 30

    whole = {table: snapshot.points(table) for table in snapshot.tables if table.space is None}
    orders = {
        table: np.random.default_rng(7).permutation(len(points.vectors))
        for table, points in whole.items()
    }

    def keys(_, table):
        shuffled = whole[table].keys.take(orders[table])
        return iter(shuffled.to_batches(max_chunksize=50))

    def points_at(_, table, rows):
        known, rows = whole[table], orders[table][rows]
        return Points(known.keys.take(rows), known.vectors[rows])

    monkeypatch.setattr(Snapshot, "keys", keys)
    monkeypatch.setattr(Snapshot, "points_at", points_at)
    again, _ = bounded_references.build_reference(snapshot, side)
    assert again.id == found.id
    pd.testing.assert_frame_equal(again.known.sites, found.known.sites)
    assert (again.known.atoms.vectors == found.known.atoms.vectors).all()
    assert (again.known.ids == found.known.ids).all()


def test_a_bounded_reference_is_read_back_as_it_was_made(own_prototypes, bounds):
    (scored,) = own_prototypes.score(["sevennet-0"], renew=True)
    stored_references.cache.clear()
    snapshot = own_prototypes.snapshot()
    side = lookup.model_layer(snapshot, "sevennet-0")
    read = stored_references.stored(snapshot, side)
    made = references.calibrated(*bounded_references.build_reference(snapshot, side))
    assert read.is_bounded
    assert read.id == made.id == scored.reference
    pd.testing.assert_frame_equal(read.known.sites, made.known.sites)
    assert (read.known.atoms.vectors == made.known.atoms.vectors).all()
    assert (read.scales.atoms == made.scales.atoms).all()


def test_what_is_kept_apart_scores_as_what_is_drawn(own_prototypes, bounds, monkeypatch):
    monkeypatch.setattr(kept_references, "SHARE", 1)
    own_prototypes.score(["sevennet-0"], renew=True)
    snapshot = own_prototypes.snapshot()
    side = lookup.model_layer(snapshot, "sevennet-0")
    stored_references.cache.clear()
    with monkeypatch.context() as patched:
        patched.setattr(stored_references, "typical_set", None)  # nothing is drawn
        kept = stored_references.stored(snapshot, side)
        stored_references.cache.clear()
    with monkeypatch.context() as patched:
        patched.setattr(kept_references, "read", lambda *_: None)
        drawn = stored_references.stored(snapshot, side)
    pd.testing.assert_frame_equal(kept.known.sites, drawn.known.sites, check_dtype=False)
    these = embedded_sets.load_set(snapshot, side, 0)
    for one, other in zip(
        references.scores(kept, these), references.scores(drawn, these), strict=True
    ):
        pd.testing.assert_frame_equal(one, other)
    few = embedded_sets.subset(these, these.ids[:1])
    alone = references.scores(replace(kept), few).atoms["neighbours"].tolist()
    assert [one.tolist() for one in alone] == [
        one.tolist() for one in references.scores(drawn, few).atoms["neighbours"]
    ]
    own_prototypes.score(["sevennet-0"], renew=True)
    names = own_prototypes.snapshot().rows("SELECT name FROM fitted WHERE name LIKE 'reference/%'")
    assert len(names) == 2
