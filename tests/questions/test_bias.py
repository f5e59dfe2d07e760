"""Bias: what differs is found, what does not is not."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule, stack
from scipy.stats import kstest

from platonic_store.errors import InvalidQuery
from platonic_store.geometry.bias import (
    closeness,
    deviation,
    group_effects,
    mutual_pairs,
)
from platonic_store.geometry.neighbours import nearest_others
from platonic_store.questions import bias
from platonic_store.questions.bias import crystal_system, dimensionality


def cloud(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 8))


def test_the_model_that_scrambles_a_group_deviates_there():
    rows = cloud(200)
    scrambled = rows.copy()
    scrambled[:50] = cloud(50, seed=1)
    views = [nearest_others(one, 5)[0] for one in (scrambled, rows, rows + 1e-3 * cloud(200, 2))]
    own, others = deviation(views, 0)
    lost = others - own
    assert lost[:50].mean() > lost[50:].mean() + 0.3
    members = np.stack([np.arange(200) < 50, np.arange(200) % 2 == 0])
    found = group_effects(lost, members)
    assert found.p_any[0] == 0.001
    assert found.p[1] > 0.05


def test_p_is_uniform_without_an_effect():
    rng = np.random.default_rng(0)
    values = rng.standard_normal(300)
    members = rng.random((200, 300)) < 0.1
    found = group_effects(values, members, permutations=199)
    assert kstest(found.p, "uniform").pvalue > 0.001
    assert (found.p_any >= found.p).all()
    assert found.p_any.min() > 0.01


def test_pairs_that_only_one_model_merges_are_close_to_it_alone():
    rows = cloud(100)
    collapsed = rows.copy()
    collapsed[7] = collapsed[3] + 1e-4
    index, distance = nearest_others(collapsed, 3)
    pairs = mutual_pairs(index).tolist()
    assert [3, 7] in pairs
    assert all(a < b and b in index[a] and a in index[b] for a, b in pairs)
    place = pairs.index([3, 7])
    assert closeness(collapsed, pairs, distance[:, 0])[place] < 1e-3
    assert closeness(rows, pairs, nearest_others(rows, 3)[1][:, 0])[place] > 0.5


def test_bonded_networks():
    graphite = stack(graphene(vacuum=1.7), graphene(vacuum=1.7))
    chain = Atoms("C", cell=[10, 10, 1.4], pbc=True)
    water = molecule("H2O", vacuum=4, pbc=True)
    crystals = [water, chain, graphite, bulk("C", "diamond", 3.57)]
    found = [dimensionality(a.numbers, a.positions, a.cell[:], a.pbc) for a in crystals]
    assert found == [0, 1, 2, 3]


def test_crystal_systems():
    numbers = [1, 2, 3, 15, 16, 74, 75, 142, 143, 167, 168, 194, 195, 230]
    names = [crystal_system(number) for number in numbers]
    assert names[::2] == names[1::2]
    assert len(set(names)) == 7


def test_bias_of_real_models(prototypes):
    frame = prototypes.bias(model="chgnet-0.3.0", k=5)
    assert set(frame["kind"]) == set(bias.BY)
    assert frame["structures"].min() >= bias.FEWEST
    assert frame["effect"].is_monotonic_decreasing
    again = prototypes.sql("SELECT * FROM bias(model := 'chgnet-0.3.0', k := 5)")
    np.testing.assert_allclose(again["effect"], frame["effect"])
    pairs = prototypes.collapsed_pairs(model="chgnet-0.3.0", k=5)
    assert (pairs["elsewhere"] > pairs["distance"]).all()
    assert pairs["p"].is_monotonic_increasing
    with pytest.raises(InvalidQuery, match="element, group"):
        prototypes.bias(by=["colour"])
