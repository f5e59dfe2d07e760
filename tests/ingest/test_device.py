"""What of a GPU's batches, precision and benchmark a CPU can show."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import one_device
from benchmarks.device_use import Utilisation
from ingest.embedder import Embedder, edges_of
from ingest.families import Structure


class Counting:
    """A model that notes the edges and atoms of each forward pass."""

    def __init__(self, device):
        self.device, self.passes = device, []
        self.layers = {0: 1}

    def embed(self, graphs, layers):
        atoms = sum(len(graph["numbers"]) for graph in graphs)
        self.passes.append((atoms, sum(map(edges_of, graphs))))
        return {0: np.zeros((atoms, 1), np.float32)}


def crystals(*edges):
    """Structures of ten atoms, and graphs of so many edges."""
    numbers = np.ones(10, int)
    structures = [
        Structure(str(i), numbers, np.zeros((10, 3)), np.eye(3), np.ones(3, bool))
        for i in range(len(edges))
    ]
    return structures, [{"numbers": numbers, "edges": np.zeros((2, n))} for n in edges]


def test_a_gpu_batches_by_edges_a_cpu_by_atoms():
    asked = crystals(*[100] * 12, *[1000] * 12)
    on_cpu, on_gpu = Counting("cpu"), Counting("cuda")
    for model in (on_cpu, on_gpu):
        assert len(list(Embedder(model, [0], 60).embed(*asked))) == 24
    assert {atoms for atoms, _ in on_cpu.passes} == {60}
    assert max(atoms for atoms, _ in on_gpu.passes) == 60
    assert max(edges for _, edges in on_cpu.passes) == 6000
    assert max(edges for _, edges in on_gpu.passes) <= 3000


@pytest.mark.parametrize("graph", [{"numbers": np.ones(3)}, ("id", np.ones(3)), object(), "text"])
def test_a_graph_of_any_kind_has_a_size(graph):
    assert edges_of(graph) == (0 if isinstance(graph, str) or type(graph) is object else 3)


@pytest.mark.parametrize(
    "package",
    [
        "pass",
        "torch.set_float32_matmul_precision('high')",
        "torch.backends.fp32_precision = 'ieee'",
        "torch.backends.fp32_precision = torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    ],
)
def test_float32_is_float32_on_a_gpu_whatever_a_package_has_set(package):
    pytest.importorskip("torch")
    program = f"import torch; {package}; from ingest.embedder import precision as p\n"
    program += "print(p('cpu')['matmul'], p('cuda'), torch.get_float32_matmul_precision())"
    root = Path(one_device.__file__).parents[1]
    said = subprocess.check_output([sys.executable, "-c", program], cwd=root, text=True)
    exact = {"matmul": "ieee", "convolution": "ieee", "deterministic_algorithms": False}
    before = "tf32" if "high" in package or "tf32" in package else "ieee"
    assert said == f"{before} {exact} highest\n"


def test_utilisation_is_what_the_drivers_tool_says(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 40; echo 60; echo '[N/A]'; exec sleep 60\n")
    tool.chmod(0o755)
    with Utilisation(None) as used:
        pass
    assert used.mean() is None
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with Utilisation("GPU-1") as used:
        assert used._process.stdout.readline() == "40\n"
    assert used.mean() in (60.0, None), "what came before the block's end"


def test_the_benchmark_doubles_until_memory_runs_out(monkeypatch):
    def embed(graphs, layers):
        atoms = sum(len(graph["numbers"]) for graph in graphs)
        if atoms > 200:
            raise MemoryError
        return {0: np.zeros((atoms, 1), np.float32)}

    model = SimpleNamespace(device="cpu", embed=embed)
    _, graphs = crystals(100, 200)
    request = {"seconds": 0.0, "most": 1 << 20}
    rows, largest = one_device.by_size(model, graphs, [10, 10], 0, request)
    assert [row["atoms"] for row in rows] == [40, 90, 190]
    assert [row["edges"] for row in rows] == [600, 1300, 2800]
    assert largest == "190 atoms; 380 atoms do not fit"
    assert sys.modules["benchmarks.one_device"].gpu_uuid("cpu") is None
