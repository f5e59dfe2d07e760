"""How far atoms moved: known turns, known moves, and nulls."""

import numpy as np
import pytest
from scipy.stats import ortho_group

from platonic_store.geometry.displacement import displacement, displacement_if_shuffled

RNG = np.random.default_rng(0)
GROUPS = np.repeat(np.arange(200), 2)
PARENT = RNG.standard_normal((400, 6)) * np.arange(1, 7)
TURN = ortho_group.rvs(6, random_state=1)


def test_a_turn_a_scale_and_a_shift_are_no_move():
    child = 3 * PARENT @ TURN + 5
    assert displacement(PARENT, child, GROUPS).max() < 1e-9


def test_more_columns_are_no_move_either():
    child = np.hstack([PARENT @ TURN, np.zeros((400, 3))])
    assert displacement(PARENT, child, GROUPS).max() < 1e-9
    assert displacement(child, PARENT, GROUPS).max() < 1e-9


def test_those_that_moved_are_found_by_how_far():
    has_moved = GROUPS < 20
    direction = np.array([0, 0, 0, 0, 0, 1.0])
    child = (PARENT + 4 * has_moved[:, None] * direction) @ TURN
    found = displacement(PARENT, child, GROUPS)
    spread = np.sqrt(((child - child.mean(0)) ** 2).sum(1).mean())
    assert found[has_moved].mean() == pytest.approx(4 / spread, rel=0.15)
    assert found[~has_moved].mean() < 0.15 * found[has_moved].mean()


def test_nothing_in_common_is_about_one_and_no_more_than_a_shuffle():
    other = RNG.standard_normal((400, 6))
    found = displacement(PARENT, other, GROUPS).mean()
    assert found == pytest.approx(1, abs=0.1)
    shuffled = displacement_if_shuffled(PARENT, other, GROUPS, np.zeros(400)).mean()
    assert found == pytest.approx(shuffled, abs=0.05)


def test_a_shuffle_stays_within_its_kind():
    kinds = GROUPS % 2
    of_kind = np.where(kinds[:, None] == 1, 50.0, 0.0) + np.zeros((400, 6))
    assert displacement_if_shuffled(of_kind, of_kind, GROUPS, kinds).max() < 1e-9
    mixed = displacement_if_shuffled(of_kind, of_kind, GROUPS, np.zeros(400))
    assert mixed.mean() > 0.5


def test_any_order_of_rows_gives_the_same():
    child = PARENT @ TURN + RNG.standard_normal((400, 6))
    order = np.random.default_rng(3).permutation(400)
    found = displacement(PARENT, child, GROUPS)
    assert np.allclose(displacement(PARENT[order], child[order], GROUPS[order]), found[order])


def test_one_group_cannot_be_halved():
    with pytest.raises(ValueError, match="two groups"):
        displacement(PARENT, PARENT, np.zeros(400))
