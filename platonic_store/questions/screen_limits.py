"""The limits of `screen`, and how often each is wrong about held-out structures."""

import pandas as pd

from platonic_store.questions.shared.declaration import Column, question
from platonic_store.questions.shared.duplicates import WITHIN, Within
from platonic_store.questions.shared.parameters import Models, ReferenceStore
from platonic_store.questions.shared.screening.known import known
from platonic_store.questions.shared.screening.limits import (
    OUTSIDE,
    SPARSE,
    Among,
    Outside,
    Sparse,
    limits_of,
    rates,
)
from platonic_store.questions.shared.structure_queries import trained_sides
from platonic_store.storage.snapshot import Snapshot


@question(
    Column("class", "string", "What it makes a candidate, unless a rule before it does."),
    Column("rule", "string", "When."),
    Column("limit", "double", "The number that it is held against."),
    Column("of", "string", "What the rates are shares of, and so what would be wrong."),
    Column("expected", "double", "The rate that the limit was chosen for."),
    Column("measured", "double", "The rate when each half is judged by the other alone."),
    Column("structures", "int64", "How many it was measured on."),
)
def screen_limits(
    snapshot: Snapshot,
    *,
    models: Models = None,
    among: Among = None,
    reference: ReferenceStore = None,
    within: Within = WITHIN,
    outside: Outside = OUTSIDE,
    sparse: Sparse = SPARSE,
) -> pd.DataFrame:
    """The limits by which `screen` classes candidates, with their error rates.

    Compositions are held out of what is known; their structures are screened as candidates are. The
    rules stand in the order in which they are tried.

    Raises: ModelNotFound, LayerNotFound, InvalidQuery with too few compositions; of a
    reference as `coverage`.
    """
    base = known(snapshot, trained_sides(snapshot, models), among, reference)
    return rates(base, limits_of(base, outside, sparse, within))
