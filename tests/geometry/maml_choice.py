"""Print maml's own DIRECT choice: `python maml_choice.py rows.npy k`, in an interpreter with maml.

maml pins nothing that matters here and wants much that does not, so it has an environment of its
own. Its scikit-learn and numpy must be the project's, for ties and roundings to fall alike:

    python -m venv maml-env
    maml-env/bin/pip install --no-deps maml==2025.4.3
    maml-env/bin/pip install pandas pymatgen monty numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
    PLATONIC_MAML_PYTHON=maml-env/bin/python pytest tests/geometry/test_maml.py
"""

import json
import sys

import numpy as np
import sklearn
from maml.sampling.clustering import BirchClustering
from maml.sampling.direct import DIRECTSampler

rows, k = np.load(sys.argv[1]), int(sys.argv[2])
sampler = DIRECTSampler(
    structure_encoder=False, clustering=BirchClustering(n=k, threshold_init=0.5)
)
chosen = sampler.fit_transform(rows)["selected_indexes"]
versions = {"numpy": np.__version__, "scikit-learn": sklearn.__version__}
print(json.dumps({"chosen": [int(i) for i in chosen], "versions": versions}))
