"""What the conformance kit does not ask of the families that come with their weights."""

import numpy as np
import pytest
from ase import Atoms

from platonic_store import errors
from platonic_store.runtimes import cards
from platonic_store.runtimes.heads import energies
from platonic_store.runtimes.preparation import prepare

from ingest.checks.crystals import PERIODIC, crystals  # isort: skip
from ingest.checks.deviations import deviation, vectors  # isort: skip
from ingest.families import Structure, load, part  # isort: skip

pytestmark = pytest.mark.models


def card(name, **more):
    return cards.resolve(name).as_dict() | more


@pytest.mark.models("chgnet")
def test_a_checkpoint_that_the_card_does_not_name_is_refused():
    pytest.importorskip("chgnet")
    with pytest.raises(ValueError, match=r"refused to load .*names 0{64}") as refusal:
        load(card("chgnet-0.3.0", checkpoint_sha256="0" * 64), "cpu")
    assert "\n" not in str(refusal.value)


@pytest.mark.models("sevennet")
def test_a_checkpoint_of_which_no_card_knows_the_hash_is_refused(tmp_path):
    pytest.importorskip("sevenn")
    path = tmp_path / "weights.pth"
    path.write_bytes(b"not read")
    with pytest.raises(ValueError, match=r"refused to load .*names none"):
        load(card("sevennet-omat", checkpoint=str(path)), "cpu")


@pytest.mark.models("sevennet")
def test_weights_that_are_not_here_are_not_downloaded(monkeypatch, tmp_path):
    pytest.importorskip("sevenn")
    monkeypatch.setenv("HOME", str(tmp_path))  # where the package keeps what it has downloaded
    with pytest.raises(FileNotFoundError, match=r"^the checkpoint of sevennet-omat is not"):
        load(card("sevennet-omat"), "cpu")


@pytest.mark.models("sevennet")
def test_random_weights_of_an_unknown_architecture(monkeypatch, tmp_path):
    pytest.importorskip("sevenn")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"^the checkpoint of \S+ is not in its package"):
        load(card("control:random:sevennet-omat"), "cpu")


@pytest.mark.parametrize("name", ["chgnet-0.3.0", "sevennet-0"])
def test_random_weights_are_their_seeds(name, capfd):
    pytest.importorskip({"chgnet-0.3.0": "chgnet", "sevennet-0": "sevenn"}[name])
    trained, *untrained = (
        load(card(model), "cpu")
        for model in (name, *(f"control:random:{name}{seed}" for seed in ("", ":0", ":1")))
    )
    zero, again, one = (model.checkpoint_sha256 for model in untrained)
    assert zero == again
    assert len({zero, one, trained.checkpoint_sha256}) == 3
    assert all(model.layers == trained.layers for model in untrained)
    assert not capfd.readouterr().out


@pytest.mark.parametrize("name", ["chgnet-0.2.0", "chgnet-0.3.0"])
def test_a_structure_without_angles_is_the_same_beside_others(name):
    """CHGNet 0.2.0 updates its bonds only where something in the batch has an angle."""
    pytest.importorskip("chgnet")
    model = load(card(name), "cpu")
    halves = np.array([[0, 0, 0], [0.5, 0.5, 0.5]])
    sodium = Structure("Na", np.array([11, 11]), halves * 4.28, np.eye(3) * 4.28, PERIODIC)
    assert len(model.graph(sodium)["bond_graph"]) == 0
    salt, *others = crystals()
    alone = vectors(model, [sodium])
    beside = vectors(model, [salt, sodium, *others])
    here = slice(len(salt.numbers), len(salt.numbers) + 2)
    deviation({layer: rows[here] for layer, rows in beside.items()}, alone)


@pytest.mark.models("sevennet")
def test_a_mirror_leaves_the_scalars_of_a_parity_aware_sevennet():
    """Layer 2 of SevenNet-MF-ompa also has 0o scalars, which are not embedded."""
    pytest.importorskip("sevenn")
    model = load(card("control:random:sevennet-mf-ompa-mpa"), "cpu")
    mirror = np.diag([1.0, 1.0, -1.0])
    crystal = crystals()[1]
    image = crystal._replace(positions=crystal.positions @ mirror, cell=crystal.cell @ mirror)
    deviation(vectors(model, [image]), vectors(model, [crystal]))


@pytest.mark.parametrize(
    ("name", "package"),
    [("sevennet-0", "sevenn"), ("chgnet-0.3.0", "chgnet"), ("control:soap", "featomic")],
)
def test_a_slab_whichever_way_its_vectors_lie(name, package):
    """What is said of the direction without periodicity does not matter, nor which one it is."""
    pytest.importorskip(package)
    model = load(card(name), "cpu")
    slab = crystals()[3]
    a, b = slab.cell[:2]
    cells = ([a, b, a * 0], [a, b, a], [a, b, [3, 2, 1]], [a * 0, a, b])
    wanted = vectors(model, [slab._replace(cell=np.array([a, b, [0, 0, 60]]))])
    for cell, pbc in zip(cells, [[1, 1, 0]] * 3 + [[0, 1, 1]], strict=True):
        other = slab._replace(cell=np.array(cell, float), pbc=np.array(pbc, bool))
        deviation(vectors(model, [other]), wanted)


@pytest.mark.models("chgnet")
def test_a_head_in_its_own_process_gives_the_calculators_energy():
    pytest.importorskip("chgnet")
    ready = prepare(["chgnet-0.3.0"])[0]
    model = load(ready.card.as_dict(), "cpu")
    salt, *_ = crystals()
    last = max(model.layers)
    features = model.embed([model.graph(salt)], [last])[last]
    found = energies(ready, features, salt.numbers)
    atoms = Atoms(salt.numbers, salt.positions, cell=salt.cell, pbc=salt.pbc)
    atoms.calc = part(ready.card.as_dict(), "official").calculator(model)
    assert found.shape == (len(salt.numbers),)
    assert found.sum() == pytest.approx(atoms.get_potential_energy(), abs=1e-3)
    with pytest.raises(errors.WorkerFailed, match=r"the energy head of \S+ failed"):
        energies(ready, features[:, :-1], salt.numbers)
