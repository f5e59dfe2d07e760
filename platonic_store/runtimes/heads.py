"""A model's own energy head, run in the model's interpreter on features from elsewhere."""

import json
import os
import subprocess
import tempfile

import numpy as np
import pyarrow as pa

from platonic_store import errors, resources
from platonic_store.arrow import vector_array
from platonic_store.runtimes.preparation import RunnableModel
from platonic_store.runtimes.variables import VARIABLES

ROWS = 8_192  # atoms in a batch


def energies(ready: RunnableModel, features: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """(n,) float64, eV: the energy that the model's head gives each atom.

    features: (n, dim) of the model's last layer. numbers: (n,) atomic numbers. The model's card
    must say `head: true`. Raises WorkerFailed if the model cannot load or its head fails.
    """
    script = resources.folder("ingest") / "head.py"
    request = json.dumps({"card": ready.card.as_dict(), "device": "auto"})
    schema = pa.schema(
        [("number", pa.int16()), ("features", pa.list_(pa.float32(), features.shape[1]))]
    )
    with (
        tempfile.TemporaryDirectory(prefix="platonic-store-") as folder,
        tempfile.TemporaryFile() as inputs,
        tempfile.TemporaryFile() as outputs,
    ):
        with pa.ipc.new_stream(inputs, schema) as stream:
            for start in range(0, len(features), ROWS):
                part = slice(start, start + ROWS)
                columns = [pa.array(numbers[part], pa.int16()), vector_array(features[part])]
                stream.write_batch(pa.record_batch(columns, schema=schema))
        inputs.seek(0)
        process = subprocess.run(
            [ready.python, script, request],
            stdin=inputs,
            stdout=outputs,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=os.environ | VARIABLES,
        )
        if process.returncode:
            lines = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
            raise errors.WorkerFailed(f"the energy head of {ready.card.name} failed: {lines[-1]}")
        outputs.seek(0)
        energy: np.ndarray = pa.ipc.open_stream(outputs).read_all()["energy"].to_numpy()
        return energy
