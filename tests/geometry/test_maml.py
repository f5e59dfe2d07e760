"""`direct_maml` against maml itself (see maml_choice.py)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from platonic_store.geometry.anchors import direct_maml

MAML = Path(__file__).parents[2] / ".maml"
pytestmark = pytest.mark.skipif(not MAML.exists(), reason="there is no maml here: make .maml")


def maml_choice(rows: np.ndarray, k: int, folder: Path) -> dict:
    np.save(folder / "rows.npy", rows)
    script = Path(__file__).with_name("maml_choice.py")
    command = [sys.executable, str(script), str(folder / "rows.npy"), str(k)]
    environment = {**os.environ, "PYTHONPATH": str(MAML)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("k", [5, 40])
@pytest.mark.parametrize("seed", [0, 1])
def test_same_choice_on_synthetic_rows(k, seed, tmp_path):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((800, 4)) @ rng.standard_normal((4, 32))
    rows += 0.3 * rng.standard_normal(rows.shape)
    theirs = maml_choice(rows, k, tmp_path)
    assert direct_maml(rows, k).tolist() == theirs["chosen"], theirs["versions"]


@pytest.fixture
def distinct(real_embeddings) -> np.ndarray:
    """One row for atoms that are alike: which of two equals is chosen hangs on a last digit."""
    standard = real_embeddings / real_embeddings.std(axis=0)
    _, first = np.unique(standard.round(1), axis=0, return_index=True)
    return real_embeddings[np.sort(first)]


@pytest.mark.parametrize("k", [10, 100])
def test_same_choice_on_real_embeddings(distinct, k, tmp_path):
    theirs = maml_choice(distinct, k, tmp_path)
    assert direct_maml(distinct, k).tolist() == theirs["chosen"], theirs["versions"]


def test_same_choice_on_shuffled_rows_as_maml_though_another(distinct, tmp_path):
    order = np.random.default_rng(0).permutation(len(distinct))
    shuffled = distinct[order]
    ours = direct_maml(shuffled, 50)
    assert ours.tolist() == maml_choice(shuffled, 50, tmp_path)["chosen"]
    assert set(order[ours]) != set(direct_maml(distinct, 50))
