"""The ingest folder is not a part of the package: it is imported as a worker imports it."""

import os
import sys
from pathlib import Path

import pytest

from platonic_store import resources

sys.path.insert(0, str(resources.folder("ingest").parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in a worker


@pytest.fixture(scope="session")
def shared_weights() -> dict[str, Path]:
    """Model name → weights, of what lies in PLATONIC_SHARED, else in `../shared`."""
    beside = Path(__file__).resolve().parents[3] / "shared"
    folder = Path(os.environ.get("PLATONIC_SHARED", beside)) / "weights"
    places = {
        "tensornet-matpes-pbe": folder / "TensorNet-MatPES-PBE-v2025.1-PES",
        "m3gnet-matpes-pbe": folder / "M3GNet-MatPES-PBE-v2025.1-PES",
        "nequix-mp-1": folder / "nequix-mp-1.pt",
        "nequix-omat-1": folder / "nequix-omat-1.pt",
    }
    return {name: path for name, path in places.items() if path.exists()}


@pytest.fixture
def own_trust_store(tmp_path, monkeypatch):
    """What a test allows is not remembered for the user."""
    monkeypatch.setenv("PLATONIC_STORE_CONFIG", str(tmp_path / "config"))
