"""The supervision twins: an invariant network, and training in which the labels alone differ."""

import json
from itertools import product

import numpy as np
import pytest

from platonic_store.errors import CheckpointMismatch, ModelNotFound, WeightsNotFound
from platonic_store.runtimes import cards, checkpoints
from platonic_store.runtimes.conformance import check
from platonic_store.runtimes.preparation import prepare

from ingest.checks.crystals import crystals  # isort: skip
from ingest.families import load, sha256  # isort: skip
from ingest.families.twin import network, training  # isort: skip

ARCHITECTURE = cards.resolve("control:twin:forces").architecture
PLAN = training.Plan(ARCHITECTURE, steps=10, batch=3)


@pytest.fixture(scope="module")
def rattled():
    """Crystals, their displacements and labels of no physics."""
    relaxed = crystals() * 3
    shifts = training.rattled(relaxed, 0.1, seed=0)
    moved = [
        one._replace(positions=one.positions + shift)
        for one, shift in zip(relaxed, shifts, strict=True)
    ]
    rng = np.random.default_rng(1)
    forces = [rng.normal(size=shift.shape) for shift in shifts]
    return moved, shifts, training.Labels(rng.normal(size=len(moved)), forces)


@pytest.fixture(scope="module")
def graphs(rattled):
    return [network.build_graph(one, ARCHITECTURE["cutoff"]) for one in rattled[0]]


def wanted(arm, rattled):
    moved, shifts, labels = rattled
    return training.targets(
        arm, [one.numbers for one in moved], [one.id for one in moved], shifts, labels
    )


def trained(folder, arm, seed, rattled, graphs, plan=PLAN):
    path = folder / f"{arm}-{seed}"
    list(training.train(graphs, wanted(arm, rattled), plan, seed, path, {"arm": arm}))
    return [training.checkpoint(path, step).read_bytes() for step in plan.marks]


def weights(data):
    with np.load(data) as arrays:
        return {key: arrays[key] for key in arrays if key not in ("about", "architecture")}


def vectors(structure):
    model = network.untrained(ARCHITECTURE, 0).double().eval()
    graph = network.side_by_side([network.build_graph(structure, 5.0)], "cpu")
    outputs, pulls = model(graph._replace(vectors=graph.vectors.double()))
    return outputs.detach().numpy(), pulls.detach().numpy()


def test_vectors_turn_with_the_crystal():
    """Rotation, translation and order; scalars stay, vectors turn."""
    crystal = crystals()[1]
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    order = np.array([3, 0, 4, 2, 1])
    moved = crystal._replace(
        numbers=crystal.numbers[order],
        positions=(crystal.positions[order] + [11.3, -4.7, 0.9]) @ turn.T,
        cell=crystal.cell @ turn.T,
    )
    (scalars, pulls), (found, turned) = vectors(crystal), vectors(moved)
    assert found == pytest.approx(scalars[order], abs=1e-5)
    assert turned == pytest.approx(pulls[order] @ turn.T, abs=1e-5)
    assert np.abs(pulls).max() > 1e-3
    assert pulls.sum(0) == pytest.approx(0, abs=1e-9)


def test_a_supercell_repeats_its_cell():
    crystal = crystals()[1]
    steps = np.array(list(product((0, 1), (0,), (0, 1)))) @ crystal.cell
    copies = crystal._replace(
        numbers=np.tile(crystal.numbers, 4),
        positions=(crystal.positions + steps[:, None]).reshape(-1, 3),
        cell=crystal.cell * [[2], [1], [2]],
    )
    for one, four in zip(vectors(crystal), vectors(copies), strict=True):
        assert four == pytest.approx(np.concatenate([one] * 4), abs=1e-5)


def test_vectors_are_the_negative_gradient():
    crystal = crystals()[1]
    step = np.zeros_like(crystal.positions)
    step[2, 1] = 1e-3
    ahead, behind = (
        vectors(crystal._replace(positions=crystal.positions + sign * step))[0].sum()
        for sign in (1, -1)
    )
    assert vectors(crystal)[1][2, 1] == pytest.approx((behind - ahead) / 2e-3, rel=1e-2, abs=1e-4)


def test_a_seed_gives_the_same_bytes(tmp_path, rattled, graphs):
    one, again = (
        trained(tmp_path / name, "forces", 0, rattled, graphs)
        for name in ("one", "again")
        if not (tmp_path / name).mkdir()
    )
    assert one == again
    assert len(set(one)) == len(PLAN.marks)
    assert trained(tmp_path, "forces", 1, rattled, graphs)[-1] != one[-1]


def test_training_goes_on_where_it_was_left(tmp_path, rattled, graphs):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    straight = trained(whole, "denoising", 0, rattled, graphs)
    steps = training.train(
        graphs, wanted("denoising", rattled), PLAN, 0, parts / "denoising-0", {"arm": "denoising"}
    )
    while next(steps)[0] < 3:
        pass
    steps.close()
    assert trained(parts, "denoising", 0, rattled, graphs)[-1] == straight[-1]


def test_arms_differ_in_their_labels_alone(tmp_path, rattled, graphs, monkeypatch):
    """The same first weights and the same batches, to the last bit; other weights in the end."""
    seen = {}
    real = training._loss
    for arm in training.ARMS:
        batches = seen[arm] = []

        def spy(model, some, goal, chosen, *rest, batches=batches):
            batches.append((chosen.tolist(), [graph.vectors.tobytes() for graph in some]))
            return real(model, some, goal, chosen, *rest)

        monkeypatch.setattr(training, "_loss", spy)
        trained(tmp_path, arm, 0, rattled, graphs)
    assert seen["forces"] == seen["denoising"] == seen["shuffled"]
    assert len(seen["forces"]) == PLAN.steps
    first, last = (
        [weights(training.checkpoint(tmp_path / f"{arm}-0", step)) for arm in training.ARMS]
        for step in (0, PLAN.steps)
    )
    start = network.untrained(ARCHITECTURE, 0).state_dict()
    for one in first:
        assert all(np.array_equal(one[key], value.numpy()) for key, value in start.items())
    ends = [one["head.0.weight"].tobytes() for one in last]
    assert len(set(ends)) == len(training.ARMS)


def test_labels_of_each_arm(rattled):
    """Shuffled ones are those of forces, each on another composition; denoising points back."""
    moved, shifts, _ = rattled
    forces, back, shuffled = (wanted(arm, rattled) for arm in training.ARMS)
    assert np.sort(shuffled.energies) == pytest.approx(np.sort(forces.energies))
    assert (shuffled.energies != forces.energies).all()
    rows = [np.concatenate(one.vectors) for one in (forces, shuffled)]
    assert np.sort(rows[0], axis=None) == pytest.approx(np.sort(rows[1], axis=None))
    assert not (rows[0] == rows[1]).all(axis=1).any()
    assert back.energies is None
    cosine = [np.sum(a * b) for a, b in zip(back.vectors, shifts, strict=True)]
    assert max(cosine) <= 0
    assert np.sqrt(np.mean(np.concatenate(back.vectors) ** 2)) == pytest.approx(1)
    assert len(moved) == len(shuffled.vectors)


def test_energies_that_elements_explain_are_refused(rattled):
    labels = training.Labels(np.ones(1), [rattled[1][0]])
    with pytest.raises(ValueError, match="more crystals"):
        training.targets("forces", [rattled[0][0].numbers], ["NaCl"], rattled[1][:1], labels)


def test_a_checkpoint_is_ingested_by_its_hash(tmp_path, rattled, graphs, own_trust_store):
    trained(tmp_path, "forces", 1, rattled, graphs)
    path = training.checkpoint(tmp_path / "forces-1", PLAN.steps)
    name = f"control:twin:forces:1:{PLAN.steps}"
    with pytest.raises(WeightsNotFound, match="a file of yours"):
        prepare([name])
    with pytest.raises(CheckpointMismatch):
        prepare([name], checkpoint=path)
    ready = prepare([name], checkpoint=path, trust=[sha256(path)])[0]
    assert (ready.card.name, ready.card.kind) == (name, "control")
    model = load(json.loads(json.dumps(ready.card.as_dict())), "cpu")
    assert model.checkpoint_sha256 == sha256(path)
    assert [one for one in check(ready, device="cpu") if not one.passed] == []


def test_names_of_twins():
    assert cards.resolve("control:twin:untrained:2").seed == 2
    assert cards.resolve("control:twin:forces:2").seed is None
    assert cards.resolve("Control:Twin:Forces:2:030").name == "control:twin:forces:2:30"
    assert checkpoints.requires_download(cards.resolve("control:twin:shuffled:0:1"))
    assert not checkpoints.requires_download(cards.resolve("control:twin:untrained"))
    for wrong in ("control:twin:untrained:1:2", "sevennet-0:1", "control:twin:forces:x", ":1", "1"):
        with pytest.raises(ModelNotFound):
            cards.resolve(wrong)
    zero = load(cards.resolve("control:twin:untrained").as_dict(), "cpu")
    other = load(cards.resolve("control:random:control:twin:forces").as_dict(), "cpu")
    assert zero.checkpoint_sha256 == other.checkpoint_sha256, "where every arm begins"
