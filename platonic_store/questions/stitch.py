"""Stitching: what one model's readout makes of another model's view of the same crystals."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from platonic_store.errors import InvalidQuery
from platonic_store.geometry.stitching import cross_read, r2
from platonic_store.questions.shared.pairing import paired_embeddings
from platonic_store.questions.shared.substitutions import composition
from platonic_store.storage.snapshot import ModelLayer, Snapshot
from platonic_store.storage.sqltext import quote

FOLDS = 5
_NUMBERS = ("SMALLINT", "INTEGER", "BIGINT", "DOUBLE")


class Gathered(NamedTuple):
    """The structures that have the property, in the order of their ids.

    learner, feeder: their coordinates (n, K); values (n,); formulas (n,); shares (n, 119) of the
    elements; has_anchor (n,) bool: of compositions that hold an anchor.
    """

    sides: tuple[ModelLayer, ModelLayer]
    learner: np.ndarray
    feeder: np.ndarray
    values: np.ndarray
    formulas: np.ndarray
    shares: np.ndarray
    has_anchor: np.ndarray


def stitch(
    snapshot: Snapshot,
    from_: str,
    to: str,
    property: str,
    *,
    space: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """`to`'s readout of a property fed with `from_`'s coordinates, and what to compare it with.

    See `Store.stitch`. To let go of the snapshot before the readouts are fitted, use `gather` and
    `compare`.
    """
    return compare(gather(snapshot, from_, to, property, space=space), seed=seed)


def gather(
    snapshot: Snapshot, from_: str, to: str, property: str, *, space: str | None = None
) -> Gathered:
    """What `compare` needs. Raises InvalidQuery, ModelNotFound, LayerNotFound, AnchorsNotFound."""
    column = _numeric(snapshot, property)
    feeder, learner = snapshot.model_layer(from_), snapshot.model_layer(to)
    space = snapshot.space(space, [feeder.model, learner.model])
    rows = paired_embeddings(
        snapshot, [learner, feeder], "structure", space=space, where=f"isfinite({column}::DOUBLE)"
    )
    known = snapshot.frame(
        f"SELECT id, formula, value, numbers FROM (SELECT id, {column}::DOUBLE AS value "
        "FROM structure) JOIN catalog.main.structures USING (id)"
    ).set_index("id")
    known = known.loc[rows.keys["structure_id"]]
    anchored = snapshot.frame(
        "SELECT DISTINCT t.formula FROM catalog.main.spaces AS s "
        "JOIN catalog.main.anchors AS a USING (anchor_set) "
        "JOIN catalog.main.structures AS t ON t.id = a.structure_id WHERE s.id = ?",
        [space],
    )["formula"]
    formulas = known["formula"].to_numpy()
    learner_rows, feeder_rows = rows.vectors
    return Gathered(
        (feeder, learner),
        learner_rows,
        feeder_rows,
        known["value"].to_numpy(),
        formulas,
        composition(known["numbers"]),
        np.isin(formulas, anchored),
    )


def compare(gathered: Gathered, *, seed: int = 0) -> pd.DataFrame:
    """The rows of `stitch`: every structure is read once, by a readout of other compositions."""
    feeder, learner = gathered.sides
    values, formulas = gathered.values, gathered.formulas
    folds = _folds(formulas, gathered.has_anchor, seed)
    stitched, own = cross_read(gathered.learner, [gathered.feeder, gathered.learner], values, folds)
    (feeders_own,) = cross_read(gathered.feeder, [gathered.feeder], values, folds)
    (by_shares,) = cross_read(gathered.shares, [gathered.shares], values, folds)
    means = np.array([values[folds != i].mean() for i in range(FOLDS)])
    ways = [
        ("stitched", learner, feeder, stitched),
        ("own", learner, learner, own),
        ("own", feeder, feeder, feeders_own),
        ("composition", None, None, by_shares),
        ("mean", None, None, means[folds]),
    ]
    tested = folds >= 0
    rows = []
    for way, learned_on, fed, read in ways:
        score, low, high = r2(values[tested], read[tested], formulas[tested], seed=seed)
        rows.append(
            {
                "way": way,
                "readout": None if learned_on is None else str(learned_on),
                "fed": None if fed is None else str(fed),
                "r2": score,
                "low": low,
                "high": high,
                "mae": np.abs(values - read)[tested].mean(),
            }
        )
    frame = pd.DataFrame(rows)
    return frame.assign(
        ratio=frame["r2"] / frame["r2"].to_numpy()[1],
        n_train=round(len(values) - tested.sum() / FOLDS),
        n_test=int(tested.sum()),
        folds=FOLDS,
    )


def _numeric(snapshot: Snapshot, property: str) -> str:
    """The property's column, quoted. Raises InvalidQuery, naming those that are numbers."""
    columns = dict(snapshot.rows("SELECT column_name, column_type FROM (DESCRIBE structure)"))
    numeric = [name for name, kind in columns.items() if kind in _NUMBERS]
    for name in numeric:
        if name.lower() == property.lower():
            return quote(name)
    said = f"{property} is not numeric" if property in columns else f"no property {property!r}"
    raise InvalidQuery(f"{said}: what can be read is one of {', '.join(numeric)}")


def _folds(formulas: np.ndarray, has_anchor: np.ndarray, seed: int) -> np.ndarray:
    """(n,) the fold that a row is tested in, whole compositions at a time; -1 for the anchors'."""
    from sklearn.model_selection import GroupKFold

    folds = np.full(len(formulas), -1)
    rest = np.flatnonzero(~has_anchor)
    compositions = len(set(formulas[rest]))
    if compositions < 2 * FOLDS:
        raise InvalidQuery(
            f"{compositions} compositions with this property hold no anchor, {FOLDS} folds of them "
            "need more: ingest more, or select fewer anchors"
        )
    split = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    for fold, (_, tested) in enumerate(split.split(rest, groups=formulas[rest])):
        folds[rest[tested]] = fold
    return folds
