"""In which order passes are launched and their results waited for, on a device that is faked."""

from types import SimpleNamespace

import numpy as np
import pytest

from ingest import transfer
from ingest.embedder import EmbeddedStructure, Embedder, Rejected, Work
from ingest.families import Structure

ATOMS = 4


class Device:
    """Notes what it is asked to do, and fills its results only when they are waited for."""

    def __init__(self, monkeypatch, fails=lambda names: None):
        self.did, self.fails = [], fails
        monkeypatch.setattr(transfer, "is_remote", lambda tensor: True)
        monkeypatch.setattr(transfer, "begin_copy", self.begin_copy)

    def begin_copy(self, result):
        names, values = result.held
        copy = np.full(values.shape, np.nan, np.float32)

        def synchronize():
            self.did.append(f"wait {names}")
            if error := self.fails(names):
                raise error
            copy[:] = values

        event = SimpleNamespace(synchronize=synchronize)
        return SimpleNamespace(numpy=lambda: copy), event


class Model:
    """An atom's feature is the number in its structure's name; graphs are these names."""

    layers = {0: 1}  # noqa: RUF012
    device = "cuda"

    def __init__(self, device, fails=lambda names: None):
        self._device, self._fails = device, fails

    def embed(self, graphs, layers):
        names = " ".join(graphs)
        self._device.did.append(f"launch {names}")
        if error := self._fails(names):
            raise error
        values = np.repeat([float(name) for name in graphs], ATOMS)[:, None].astype(np.float32)
        result = SimpleNamespace(held=(names, values))
        result.detach = lambda: result
        return {0: transfer.to_host(result)}


def work(names, graphs=None):
    one = (np.ones(ATOMS, int), np.zeros((ATOMS, 3)), np.eye(3), np.ones(3, bool))
    structures = [Structure(name, *one) for name in names.split()]
    return Work(structures, graphs or names.split())


def told(results):
    """Name → the feature, or why there is none."""
    found = {}
    for one in results:
        if isinstance(one, EmbeddedStructure):
            assert one.layers[0].shape == (ATOMS, 1)
            found[one.structure.id] = float(one.layers[0].mean())
        else:
            found[one[0]] = one[1]
    return found


def embedder(model, passes=2):
    """So many structures in a pass."""
    return Embedder(model, [0], passes * ATOMS)


def test_the_next_pass_is_launched_before_a_result_is_waited_for(monkeypatch):
    device = Device(monkeypatch)
    asked = work("0 1 2 3 4 5")
    results = embedder(Model(device)).embed(asked.structures, asked.graphs)
    assert device.did == [
        "launch 0 1",
        "launch 2 3",
        "wait 0 1",
        "launch 4 5",
        "wait 2 3",
        "wait 4 5",
    ]
    assert told(results) == {str(i): float(i) for i in range(6)}


def test_the_next_request_is_begun_before_one_is_answered(monkeypatch):
    device = Device(monkeypatch)
    works = [work("0 1"), work("2 3 4"), work("5", [Rejected("no graph")]), work("6")]
    answers = embedder(Model(device)).run(works)
    assert told(next(answers).results) == {"0": 0, "1": 1}
    assert device.did == ["launch 0 1", "launch 2 3", "wait 0 1"]
    assert [told(one.results) for one in answers] == [
        {"2": 2, "3": 3, "4": 4},
        {"5": "no graph"},
        {"6": 6},
    ]


def test_nothing_is_held_back_while_there_is_no_next_request(monkeypatch):
    device = Device(monkeypatch)
    answers = embedder(Model(device)).run(iter([None, work("0"), None, work("1"), None]))
    assert told(next(answers).results) == {"0": 0}
    assert device.did == ["launch 0", "wait 0"], "before the next has come"
    assert told(next(answers).results) == {"1": 1}


def test_on_a_cpu_a_request_is_answered_before_the_next_is_begun():
    begun = []

    def embed(graphs, layers):
        begun.append(graphs)
        return {0: np.zeros((ATOMS * len(graphs), 1), np.float32)}

    model = SimpleNamespace(device="cpu", layers={0: 1}, embed=embed)
    answers = embedder(model).run([work("0"), work("1")])
    next(answers)
    assert begun == [["0"]]


@pytest.mark.parametrize("at", ["launch", "wait"])
def test_memory_may_run_out_at_the_launch_or_at_the_result(monkeypatch, at):
    def fails(names):
        return MemoryError() if "3" in names else None

    never = Device(monkeypatch).fails
    device = Device(monkeypatch, fails if at == "wait" else never)
    asked = embedder(Model(device, fails if at == "launch" else never), 4)
    first, second = asked.run([work("0 1 2"), work("4 5 3 6")])
    assert told(first.results) == {"0": 0, "1": 1, "2": 2}
    reason = f"out of memory: its {ATOMS} atoms do not fit on cuda"
    assert told(second.results) == {"4": 4, "5": 5, "3": reason, "6": 6}
    assert [one[0] for one in second.results if len(one) == 2] == ["3"]
    assert asked.batch_atoms < 4 * ATOMS, "halved for good"


def test_another_error_at_the_result_rejects_one_structure_and_one_of_cuda_ends_all(monkeypatch):
    errors = {"3": ValueError("bad"), "8": RuntimeError("CUDA error: an illegal memory access")}

    def fails(names):
        return next((error for name, error in errors.items() if name in names.split()), None)

    asked = embedder(Model(Device(monkeypatch, fails)))
    answers = asked.run([work("0 1"), work("2 3"), work("7 8"), work("9")])
    assert told(next(answers).results) == {"0": 0, "1": 1}
    assert told(next(answers).results) == {"2": 2, "3": "no embedding: ValueError: bad"}
    with pytest.raises(RuntimeError, match="CUDA error"):
        next(answers)


def test_what_is_not_finite_rejects_one_structure(monkeypatch):
    asked = embedder(Model(Device(monkeypatch)))
    (done,) = asked.run([work("0 nan 2")])
    assert told(done.results)["nan"] == "its embedding, energy or a force is not finite"
    assert told(done.results)["2"] == 2


def test_outside_of_a_block_results_are_waited_for_at_once(monkeypatch):
    device = Device(monkeypatch)
    rows = Model(device).embed(["1", "2"], [0])[0]
    assert rows[:, 0].tolist() == [1] * ATOMS + [2] * ATOMS
    assert device.did == ["launch 1 2", "wait 1 2"]


def test_an_adapter_that_reads_too_early_is_found():
    """As the conformance kit does: `arrives_late`."""
    torch = pytest.importorskip("torch")
    from ingest.checks.features import arrives_late
    from ingest.checks.late import late
    from ingest.families import sums

    class Right:
        layers = {0: 1}  # noqa: RUF012
        device = "cpu"

        @staticmethod
        def graph(structure):
            return structure.numbers

        def embed(self, graphs, layers):
            numbers = torch.from_numpy(np.concatenate(graphs)).float()[:, None]
            found = {0: transfer.to_host(numbers)}
            numbers += 1  # in place, of the next layer
            return found

    class Hasty(Right):
        def embed(self, graphs, layers):
            return {0: 2 * super().embed(graphs, layers)[0]}

    assert arrives_late(Right()) == 0
    with pytest.raises(AssertionError):
        arrives_late(Hasty())
    values, sizes = torch.linspace(0, 1, 100), [1, 40, 2, 57]
    wanted = sums(values, sizes)
    with late():
        np.testing.assert_allclose(sums(values, sizes), wanted, rtol=1e-12)
