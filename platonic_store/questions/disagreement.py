"""The structures on whose similar environments the models agree least."""

import pandas as pd

from platonic_store.errors import Call, InvalidQuery
from platonic_store.questions.shared.declaration import Column, question
from platonic_store.questions.shared.parameters import K
from platonic_store.questions.typicality import CAVEAT
from platonic_store.storage.snapshot import Snapshot


@question(
    Column("rank", "int64", "1 is the structure that models agree on least."),
    Column("structure_id", "string", "The structure."),
    Column("disagreement", "double", "1 − mean share of nearest typical atoms in common."),
    Column("p_disagreement", "double", "Share of the calibration disagreed on at least as much."),
    Column("p", "double", "Consensus: share at least as atypical to all models together."),
    Column("site_index", "int32", "The atom on which they agree least."),
    Column("models", "list<string>", "The models."),
    describes=True,
    caveat=CAVEAT,
)
def disagreement(snapshot: Snapshot, *, k: K = 20) -> pd.DataFrame:
    """The k structures on whose nearest typical atoms the models, by `score`, agree least.

    The rows are those of the view `disagreement`. Typicality is not confidence, and neither is
    agreement.

    Raises: InvalidQuery if fewer than two models have scores in the store.
    """
    rows = snapshot.frame(
        "SELECT row_number() OVER (ORDER BY disagreement DESC NULLS LAST, structure_id) AS rank, * "
        "FROM disagreement ORDER BY rank LIMIT ?",
        [k],
    )
    if rows.empty:
        raise InvalidQuery("no two models have scores of the same structures", Call("score"))
    return rows
