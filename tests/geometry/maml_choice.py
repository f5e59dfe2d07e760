"""Print maml's own DIRECT choice: `PYTHONPATH=.maml python maml_choice.py rows.npy k`

maml wants much that does not matter here, so `make .maml` puts it into a folder of its own, without
what it depends on: it finds the project's scikit-learn and numpy, so that ties and roundings fall
alike.
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
