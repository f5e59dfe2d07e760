"""The structures, or atoms, that look least typical to a model."""

import numpy as np
import pandas as pd

from platonic_store.questions.shared.declaration import Column, question
from platonic_store.questions.shared.parameters import K, Level, Model
from platonic_store.questions.typicality import CAVEAT, COLUMNS, typicality
from platonic_store.storage.snapshot import Snapshot


@question(
    Column("rank", "int64", "1 is the least typical."), *COLUMNS, describes=True, caveat=CAVEAT
)
def outliers(
    snapshot: Snapshot, *, model: Model = None, k: K = 20, level: Level = "structure"
) -> pd.DataFrame:
    """The k least typical structures (or atoms) of the store, according to a model.

    Typicality is not confidence. Scores that `score` stored are read, others computed.

    Raises: ModelNotFound, LayerNotFound, InvalidQuery with too few compositions.
    """
    rows = typicality(snapshot, model=model, level=level)
    keys = ["atypicality", "structure_id", "site_index"]
    worst = rows.sort_values(keys, ascending=[False, True, True]).head(k)
    return worst.assign(rank=np.arange(1, len(worst) + 1)).reset_index(drop=True)
