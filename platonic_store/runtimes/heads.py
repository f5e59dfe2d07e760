"""A model's own energy head, run where the model runs, on features from elsewhere."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from platonic_store import errors, resources
from platonic_store.arrow import vector_array
from platonic_store.runtimes.cards import Card
from platonic_store.runtimes.preparation import RunnableModel
from platonic_store.runtimes.process import VARIABLES

ROWS = 8_192  # atoms in a batch


def has_head(card: Card) -> bool:
    """Whether the energy head of a card's family can be fed: it reads an atom's last layer and
    element, and nothing else."""
    official = Path(card.folder) / "official.py"
    return official.exists() and "\ndef head(" in official.read_text("utf-8")


def energies(
    ready: RunnableModel, features: np.ndarray, numbers: np.ndarray, *, device: str = "auto"
) -> np.ndarray:
    """(n,) float64, eV: what the model's head makes of (n, dim) features of atoms.

    numbers: (n,) atomic numbers. Raises WorkerFailed if the model cannot load.
    """
    script = resources.folder("ingest") / "head.py"
    request = json.dumps({"card": ready.card.as_dict(), "device": device})
    schema = pa.schema(
        [("number", pa.int16()), ("features", pa.list_(pa.float32(), features.shape[1]))]
    )
    with (
        tempfile.TemporaryDirectory(prefix="platonic-store-") as folder,
        tempfile.TemporaryFile() as asked,
        tempfile.TemporaryFile() as answered,
    ):
        with pa.ipc.new_stream(asked, schema) as stream:
            for start in range(0, len(features), ROWS):
                part = slice(start, start + ROWS)
                columns = [pa.array(numbers[part], pa.int16()), vector_array(features[part])]
                stream.write_batch(pa.record_batch(columns, schema=schema))
        asked.seek(0)
        process = subprocess.run(
            [ready.python, script, request],
            stdin=asked,
            stdout=answered,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=os.environ | VARIABLES,
        )
        if process.returncode:
            lines = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
            raise errors.WorkerFailed(f"the head of {ready.card.name} gave no energy: {lines[-1]}")
        answered.seek(0)
        return pa.ipc.open_stream(answered).read_all()["energy"].to_numpy()
