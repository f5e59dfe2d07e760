"""A numeric property by one model's readout, fed with another model's coordinates."""

from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd

from platonic_store.errors import InvalidQuery
from platonic_store.geometry.stitching import cross_read, r2
from platonic_store.questions.shared.declaration import Column, question
from platonic_store.questions.shared.pairing import paired_embeddings
from platonic_store.questions.shared.parameters import OneModel, Seed, Space
from platonic_store.questions.shared.properties import numeric_properties
from platonic_store.questions.shared.substitutions import composition
from platonic_store.questions.shared.tables import space_anchors
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot
from platonic_store.storage.sqltext import quote

FOLDS = 5


class Rows(NamedTuple):
    """The structures that have the property, in the order of their ids.

    source, target: coordinates (n, K) by the model that feeds and by the one whose readout it is;
    values (n,); formulas (n,); shares (n, 119) of the elements; has_anchor (n,) bool: of
    compositions that hold an anchor.
    """

    source: np.ndarray
    target: np.ndarray
    values: np.ndarray
    formulas: np.ndarray
    shares: np.ndarray
    has_anchor: np.ndarray


@question(
    Column("way", "string", "stitched; own; composition (elements alone); mean."),
    Column("readout", "string", "MODEL@LAYER that the readout was trained on."),
    Column("fed", "string", "MODEL@LAYER whose coordinates it reads."),
    Column("r2", "double", "Coefficient of determination on compositions not trained on."),
    Column("low", "double", "Lower end of its 95 % interval, resampling compositions."),
    Column("high", "double", "Upper end."),
    Column("mae", "double", "Mean absolute error.", unit="of the property"),
    Column("ratio", "double", "r2 over that of the readout's own model."),
    Column("n_train", "int64", "Structures that a readout was trained on."),
    Column("n_test", "int64", "Structures read."),
    Column("folds", "int64", "Folds of whole compositions."),
    caveat="a high ratio says that both models know the same of the property, not that either is "
    "right",
)
def stitch(
    snapshot: Snapshot,
    from_model: OneModel,
    to_model: OneModel,
    property: Annotated[str, "A numeric column of `structure`."],
    *,
    space: Space = None,
    seed: Seed = 0,
) -> pd.DataFrame:
    """What `to_model`'s readout of a property gives for structures as `from_model` embeds them.

    A ridge regression learns a numeric property of the `structure` view from `to_model`'s
    coordinates in a shared space, and is fed with `from_model`'s, which it has never seen. Beside
    it: both models' own readouts, one of composition alone, the mean. All read compositions that
    they were not trained on; those of the anchors are trained on only.

    Raises: InvalidQuery for a property that is no number, ModelNotFound, LayerNotFound,
    AnchorsNotFound.
    """
    column = _numeric(snapshot, property)
    source, target = (
        lookup.model_layer(snapshot, from_model),
        lookup.model_layer(snapshot, to_model),
    )
    space = lookup.space(snapshot, space, [source.model, target.model])
    source = lookup.side_in(snapshot, space, from_model)
    target = lookup.side_in(snapshot, space, to_model)
    rows = _rows(snapshot, source, target, column, space)
    folds = _folds(rows.formulas, rows.has_anchor, seed)
    stitched, own = cross_read(rows.target, [rows.source, rows.target], rows.values, folds)
    (sources_own,) = cross_read(rows.source, [rows.source], rows.values, folds)
    (by_shares,) = cross_read(rows.shares, [rows.shares], rows.values, folds)
    means = np.array([rows.values[folds != i].mean() for i in range(FOLDS)])
    ways = [
        ("stitched", target, source, stitched),
        ("own", target, target, own),
        ("own", source, source, sources_own),
        ("composition", None, None, by_shares),
        ("mean", None, None, means[folds]),
    ]
    tested = folds >= 0
    values, formulas = rows.values[tested], rows.formulas[tested]
    frame = pd.DataFrame(
        {
            "way": way,
            "readout": None if readout is None else str(readout),
            "fed": None if fed is None else str(fed),
            **dict(
                zip(
                    ("r2", "low", "high"),
                    r2(values, read[tested], formulas, seed=seed),
                    strict=True,
                )
            ),
            "mae": np.abs(values - read[tested]).mean(),
        }
        for way, readout, fed, read in ways
    )
    return frame.assign(
        ratio=frame["r2"] / frame["r2"].to_numpy()[1],
        n_train=round(len(folds) - tested.sum() / FOLDS),
        n_test=int(tested.sum()),
        folds=FOLDS,
    )


def _rows(
    snapshot: Snapshot, source: ModelLayer, target: ModelLayer, column: str, space: str
) -> Rows:
    paired = paired_embeddings(
        snapshot,
        [source, target],
        "structure",
        space=space,
        where=f"isfinite({column}::DOUBLE)",
    )
    known = snapshot.frame(
        "SELECT structure_id, t.formula, value, numbers FROM "
        f"(SELECT structure_id, {column}::DOUBLE AS value FROM structure) "
        "JOIN catalog.main.structures AS t ON t.id = structure_id "
        "JOIN crystals USING (structure_id)"
    ).set_index("structure_id")
    known = known.loc[paired.keys["structure_id"]]
    formulas = known["formula"].to_numpy()
    by_source, by_target = paired.vectors
    return Rows(
        by_source,
        by_target,
        known["value"].to_numpy(),
        formulas,
        composition(known["numbers"]),
        np.isin(formulas, space_anchors(snapshot, space)["formula"]),
    )


def _numeric(snapshot: Snapshot, property: str) -> str:
    """The property's column, quoted. Raises InvalidQuery, naming those that are numbers."""
    numeric = numeric_properties(snapshot)
    for name in numeric:
        if name.lower() == property.lower():
            return quote(name)
    raise InvalidQuery(
        f"{property!r} is no numeric property of this store (it has {', '.join(numeric)})"
    )


def _folds(formulas: np.ndarray, has_anchor: np.ndarray, seed: int) -> np.ndarray:
    """(n,) the fold that a row is tested in, whole compositions at a time; -1 for the anchors'."""
    from sklearn.model_selection import GroupKFold

    folds = np.full(len(formulas), -1)
    rest = np.flatnonzero(~has_anchor)
    compositions = len(set(formulas[rest]))
    if compositions < 2 * FOLDS:
        raise InvalidQuery(
            f"{compositions} compositions with this property hold no anchor, {FOLDS} folds need "
            f"{2 * FOLDS}",
            "ingest more",
            "select fewer anchors",
        )
    split = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    for fold, (_, tested) in enumerate(split.split(rest, groups=formulas[rest])):
        folds[rest[tested]] = fold
    return folds
