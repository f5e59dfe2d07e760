"""Neighbours by cells: nearly those of an exact search, and as many."""

import numpy as np
import pytest

from platonic_store.geometry import cells
from platonic_store.geometry.neighbours import nearest


@pytest.fixture
def rows() -> np.ndarray:
    """Rows around 300 centres, as atoms gather around environments."""
    dice = np.random.default_rng(0)
    centres = dice.normal(size=(300, 24))
    near = centres[dice.integers(300, size=6_000)]
    return (near + 0.15 * dice.normal(size=near.shape)).astype(np.float32)


@pytest.mark.parametrize("has_hubs", [False, True])
def test_recall_is_what_was_measured(rows, has_hubs, monkeypatch):
    monkeypatch.setattr(cells, "CELL", 100)
    hubs = np.random.default_rng(1).uniform(0, 0.1, len(rows)) if has_hubs else None
    hubs = None if hubs is None else hubs.astype(np.float32)
    found = cells.cells_of(rows, rows)
    assert sorted(np.concatenate(found.points)) == list(range(len(rows)))
    around, recall = cells.measured(rows, rows, 10, found, hubs)
    assert recall >= cells.RECALL
    assert around < len(found.order)
    exact = nearest(rows, rows, 10, hubs)[0]
    hits = seen = 0
    for part in found.parts(most=70):
        some, index, distance = cells.nearest_around(rows, rows, 10, found, around, part, hubs)
        assert index.shape == distance.shape == (len(some), 10)
        hits += sum(len({*a} & {*b}) for a, b in zip(index, exact[some], strict=True))
        seen += len(some)
    assert seen == len(rows)
    assert hits / exact.size > 0.985


def test_cells_all_around_give_the_exact_answer(rows, monkeypatch):
    monkeypatch.setattr(cells, "CELL", 500)
    found = cells.cells_of(rows[:100], rows)
    exact = nearest(rows[:100], rows, 5)
    for part in found.parts(most=1_000):
        some, index, distance = cells.nearest_around(rows[:100], rows, 5, found, 12, part)
        assert (index == exact[0][some]).all()
        assert (distance == exact[1][some]).all()


def test_itself_does_not_count_and_no_more_cells_are_taken_than_suffice(rows, monkeypatch):
    monkeypatch.setattr(cells, "CELL", 20)
    found, own = cells.cells_of(rows, rows), np.arange(len(rows))
    around, recall = cells.measured(rows, rows, 10, found, own=own)
    with_itself = cells.measured(rows, rows, 11, found)[1]
    some = np.sort(np.random.default_rng(1).permutation(len(rows))[: cells.MEASURED])
    exact = nearest(rows[some], rows, 11)[0][:, 1:]  # no two rows are the same

    def recall_by(around):
        hits = 0
        for cell, these in found.parts(most=1):
            if these[0] in some:
                near = cells.nearest_around(rows, rows, 11, found, around, (cell, these))[1]
                hits += np.isin(near[0], exact[np.searchsorted(some, these[0])]).sum()
        return hits / exact.size

    assert recall_by(around) == pytest.approx(recall)
    assert recall_by(around - 1) < cells.RECALL <= recall
    assert with_itself >= cells.RECALL


def test_half_precision_is_searched_as_single(rows):
    half = rows.astype(np.float16)
    single = half.astype(np.float32)
    answers = []
    for these in (half, single):
        found = cells.cells_of(these, these)
        around, _ = cells.measured(these, these, 5, found)
        parts = [
            cells.nearest_around(these, these, 5, found, around, one) for one in found.parts(999)
        ]
        answers.append([np.concatenate(column) for column in zip(*parts, strict=True)])
    for one, other in zip(*answers, strict=True):
        np.testing.assert_array_equal(one, other)
