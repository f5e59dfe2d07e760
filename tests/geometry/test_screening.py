"""The consensus of models, the neighbours that they share, and contacts of atoms."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.data import atomic_numbers, covalent_radii

from platonic_store.geometry import screening as geometry
from platonic_store.geometry.typicality import conformal_p


def test_consensus_is_valid_for_models_that_agree_and_that_do_not():
    rng = np.random.default_rng(0)
    for shared in (0.0, 1.0):
        common = rng.normal(size=(6_000, 1)) * shared
        scores = common + rng.normal(size=(6_000, 3)) * (1 - shared)
        p = geometry.consensus_p(scores[:3_000], scores[3_000:])
        for limit in (0.01, 0.05, 0.2):
            assert abs((p <= limit).mean() - limit) < 0.02
        assert abs(geometry.cross_fitted_rate(scores, 0.1, np.arange(6_000) % 2 == 0) - 0.1) < 0.02


def test_of_one_model_it_is_the_conformal_p():
    rng = np.random.default_rng(1)
    scores, usual = rng.normal(size=(50, 1)), rng.normal(size=(99, 1))
    expected = conformal_p(scores[:, 0], usual[:, 0])
    np.testing.assert_array_equal(geometry.consensus_p(scores, usual), expected)
    ranks = geometry.consensus_p(usual, usual, is_member=True)
    np.testing.assert_allclose(np.sort(ranks), np.arange(1, 100) / 99)


def test_disagreement_counts_the_neighbours_in_common():
    none = geometry.NOBODY
    one = np.array([[1, 2, 3], [1, 2, none], [4, none, none]])
    other = np.array([[3, 2, 9], [2, 1, none], [5, 6, none]])
    np.testing.assert_allclose(geometry.disagreement([one, other]), [1 / 3, 0, 1])
    np.testing.assert_allclose(geometry.disagreement([one, other, one]), [2 / 9, 0, 2 / 3])
    assert np.isnan(geometry.disagreement([one])).all()


@pytest.mark.parametrize("repeat", [(1, 1, 1), (2, 1, 1)])
def test_shortest_contact_of_a_metal_is_known(repeat):
    copper = bulk("Cu", "fcc", a=3.6) * repeat
    radius = covalent_radii[atomic_numbers["Cu"]]
    found = geometry.shortest_contact(copper.numbers, copper.positions, copper.cell[:], copper.pbc)
    assert found == pytest.approx(3.6 / np.sqrt(2) / (2 * radius))


def test_atoms_far_apart_have_no_contact():
    lone = bulk("Cu", "sc", a=20.0)
    assert geometry.shortest_contact(lone.numbers, lone.positions, lone.cell[:], lone.pbc) == 1.5


@pytest.mark.parametrize("cell", [np.zeros((3, 3)), np.diag([1.0, 9, 9])])
def test_a_molecule_has_contacts_without_a_cell(cell):
    water = molecule("H2O")
    found = geometry.shortest_contact(water.numbers, water.positions, cell, water.pbc)
    radii = covalent_radii[[1, 8]].sum()
    assert found == pytest.approx(water.get_distance(0, 1) / radii)
