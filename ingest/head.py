"""A model's own energy head on features from elsewhere. `python head.py REQUEST`

The request is JSON: card, device. stdin: an Arrow IPC stream with columns number int16 and features
fixed_size_list<float32>[dim of the last layer], a row for each atom. stdout: an Arrow IPC stream
with a column energy double, eV, batch for batch. On failure the last line of stderr is the reason.
"""

import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":
    # So that `ingest` is imported as a package.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import pyarrow as pa

from ingest.embedder import one_line
from ingest.families import load, part

SCHEMA = pa.schema([pa.field("energy", pa.float64())])


def main() -> None:
    """Only energies go to stdout: what a library prints goes to stderr."""
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    request = json.loads(sys.argv[1])
    try:
        model = load(request["card"], request["device"])
        energies = part(request["card"], "official").head(model)
        dim = model.layers[max(model.layers)]
        with pa.ipc.open_stream(sys.stdin.buffer) as source, pa.ipc.new_stream(sink, SCHEMA) as out:
            for batch in source:
                # A copy: Arrow's arrays are read-only, and torch warns of that.
                features = batch["features"].flatten().to_numpy().reshape(-1, dim).copy()
                numbers = batch["number"].to_numpy().astype(np.int64)
                found = energies(features, numbers).astype(np.float64)
                out.write_batch(pa.record_batch([pa.array(found)], schema=SCHEMA))
    except Exception as error:
        sys.exit(one_line(error))


if __name__ == "__main__":
    main()
