"""The ingest folder is not a part of the package: it is imported as a worker imports it."""

import os
import sys

from platonic_store import resources

sys.path.insert(0, str(resources.folder("ingest").parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in a worker
