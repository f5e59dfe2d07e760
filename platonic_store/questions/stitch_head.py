"""The energy that one model's own head gives when fed with another model's view of the atoms."""

from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
from annotated_types import Ge

from platonic_store.errors import InvalidQuery
from platonic_store.geometry.stitching import decode, r2
from platonic_store.questions.shared.declaration import Column, question
from platonic_store.questions.shared.pairing import paired_embeddings
from platonic_store.questions.shared.parameters import OneModel, Seed, Space
from platonic_store.questions.shared.tables import is_anchor, space_anchors
from platonic_store.runtimes.cards import load_cards, resolve
from platonic_store.storage import lookup
from platonic_store.storage.layout import PRIMARY_KEY
from platonic_store.storage.snapshot import ModelLayer, Snapshot, VectorTable
from platonic_store.storage.sqltext import literals


class PairedAtoms(NamedTuple):
    """Atoms as both models embed them, row for row.

    source and target: coordinates in the shared space, (n, K) each, by the model that feeds and the
    one whose head it is; features: the target's last layer (n, F); numbers: atomic numbers (n,).
    """

    keys: pd.DataFrame
    source: np.ndarray
    target: np.ndarray
    features: np.ndarray
    numbers: np.ndarray

    def only(self, mask: np.ndarray) -> "PairedAtoms":
        """Those for which (n,) `mask` is true."""
        keys, *arrays = self
        return PairedAtoms(keys[mask], *(array[mask] for array in arrays))


class Data(NamedTuple):
    """The anchors, by which coordinates are decoded, and the structures to be tested."""

    anchors: PairedAtoms
    tested: PairedAtoms
    formulas: pd.Series


@question(
    Column("way", "string", "stitched; decoded; own; element; mean: what the head was fed with."),
    Column("readout", "string", "The model whose head it is."),
    Column("fed", "string", "MODEL@LAYER of the features."),
    Column("r2", "double", "Coefficient of determination against the model's own energies."),
    Column("low", "double", "Lower end of its 95 % interval, resampling compositions."),
    Column("high", "double", "Upper end."),
    Column("mae", "double", "Mean absolute error.", unit="eV/atom"),
    Column("n_train", "int64", "Anchors by which coordinates are decoded."),
    Column("n_test", "int64", "Structures."),
    caveat="much of an energy is the elements' alone: read r2 beside that of `element`",
)
def stitch_head(
    snapshot: Snapshot,
    from_model: OneModel,
    to_model: OneModel,
    *,
    space: Space = None,
    structures: Annotated[int, "Structures to test, at most.", Ge(2)] = 2_000,
    seed: Seed = 0,
) -> pd.DataFrame:
    """The energy that `to_model`'s own head gives when fed with `from_model`'s view of the atoms.

    `from_model`'s coordinates are decoded to `to_model`'s last layer by what both are at the
    anchors. Beside it: `to_model`'s own coordinates decoded, its own features (its energy, which
    all are compared with), the mean features of the atom's element, and of all. Structures are of
    compositions that hold no anchor.

    Raises: as `stitch`; InvalidQuery if the head reads more than an atom's last layer.
    """
    from platonic_store.runtimes.heads import energies
    from platonic_store.runtimes.preparation import prepare

    source, target = (
        lookup.model_layer(snapshot, from_model),
        lookup.model_layer(snapshot, to_model),
    )
    _require_head(target.model)
    space = lookup.space(snapshot, space, [source.model, target.model])
    source = lookup.side_in(snapshot, space, from_model)
    target = lookup.side_in(snapshot, space, to_model)
    anchors, tested, formulas = _data(snapshot, source, target, space, structures, seed)
    mean = np.broadcast_to(anchors.features.mean(0), tested.features.shape)
    fed = {
        ("stitched", str(source)): decode(anchors.source, anchors.features, tested.source, seed),
        ("decoded", str(target)): decode(anchors.target, anchors.features, tested.target, seed),
        ("own", str(target)): tested.features,
        ("element", None): _element_means(anchors, tested.numbers),
        ("mean", None): mean,
    }
    (runnable,) = prepare([target.model])
    found = energies(
        runnable,
        np.concatenate([rows.astype(np.float32) for rows in fed.values()]),
        np.tile(tested.numbers, len(fed)),
    )
    atoms = pd.DataFrame(found.reshape(len(fed), -1).T)
    by_structure = atoms.groupby(tested.keys["structure_id"].to_numpy()).mean()
    groups = formulas[by_structure.index].to_numpy()
    truth = by_structure[list(fed).index(("own", str(target)))].to_numpy()
    rows = []
    for column, (way, by) in enumerate(fed):
        read = by_structure[column].to_numpy()
        score, low, high = r2(truth, read, groups, seed=seed)
        mae = float(np.abs(truth - read).mean())
        rows.append({"way": way, "fed": by, "r2": score, "low": low, "high": high, "mae": mae})
    return pd.DataFrame(rows).assign(
        readout=f"{target.model}'s head", n_train=len(anchors.keys), n_test=len(truth)
    )


def _data(
    snapshot: Snapshot,
    source: ModelLayer,
    target: ModelLayer,
    space: str,
    structures: int,
    seed: int,
) -> Data:
    """Anchors, and `structures` at most, none with the composition of an anchor."""
    last = ModelLayer(target.model, max(one.index for one in resolve(target.model).layers))
    tables = [
        lookup.vector_table(snapshot, source, "atom", space),
        lookup.vector_table(snapshot, target, "atom", space),
        lookup.vector_table(snapshot, last, "atom"),
    ]
    anchors = space_anchors(snapshot, space)
    elsewhere = f"formula NOT IN ({literals(anchors['formula'].unique())})"
    chosen = paired_embeddings(
        snapshot,
        [source, target],
        "structure",
        space=space,
        where=elsewhere,
        sample=structures,
        seed=seed,
    ).keys["structure_id"]
    formulas = snapshot.describe(chosen.tolist()).set_index("structure_id")["formula"]
    at_anchors = _atoms(snapshot, tables, anchors["structure_id"].unique().tolist())
    return Data(
        at_anchors.only(is_anchor(at_anchors.keys, anchors)),
        _atoms(snapshot, tables, chosen.tolist()),
        formulas,
    )


def _require_head(model: str) -> None:
    card = resolve(model)
    if not card.head:
        families = sorted({one.family for one in load_cards().values() if one.head})
        raise InvalidQuery(
            f"{model} has no energy head that reads an atom's last layer and nothing else "
            f"(models of {', '.join(families)} have)"
        )


def _atoms(snapshot: Snapshot, tables: list[VectorTable], ids: list[str]) -> PairedAtoms:
    """All atoms of some structures, in the order of their keys."""
    condition = f"structure_id IN ({literals(ids)})"
    names = PRIMARY_KEY["atom"]
    keys, numbers, vectors = None, None, []
    for table in tables:
        points = snapshot.points(table, condition)
        frame = points.keys.select([*names, "atomic_number"]).to_pandas().sort_values(names)
        keys, numbers = frame[names].reset_index(drop=True), frame["atomic_number"].to_numpy()
        vectors.append(points.vectors[frame.index.to_numpy()])
    assert keys is not None
    assert numbers is not None
    source, target, features = vectors
    return PairedAtoms(keys, source, target, features, numbers)


def _element_means(anchors: PairedAtoms, numbers: np.ndarray) -> np.ndarray:
    """(n, F) the mean features of each atom's element; of all anchors where no anchor is of it."""
    means: np.ndarray = np.tile(anchors.features.mean(0, dtype=np.float64), (119, 1))
    for number in np.unique(anchors.numbers):
        means[number] = anchors.features[anchors.numbers == number].mean(0, dtype=np.float64)
    return np.asarray(means[numbers])
