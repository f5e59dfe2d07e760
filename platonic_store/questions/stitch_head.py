"""Stitching into a model's own energy head: what it makes of another model's view of an atom."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from platonic_store.errors import InvalidQuery
from platonic_store.geometry.stitching import decode, r2
from platonic_store.questions.shared.pairing import paired_embeddings
from platonic_store.runtimes.cards import load_cards, resolve
from platonic_store.storage.snapshot import ModelLayer, Snapshot, VectorTable
from platonic_store.storage.sqltext import literals

_ATOM = ["structure_id", "site_index"]


class Atoms(NamedTuple):
    """Atoms as both models see them, row for row.

    feeder and learner: coordinates in the shared space, (n, K) each; features: the learner's last
    layer (n, F); numbers: atomic numbers (n,).
    """

    keys: pd.DataFrame
    feeder: np.ndarray
    learner: np.ndarray
    features: np.ndarray
    numbers: np.ndarray

    def only(self, mask: np.ndarray) -> "Atoms":
        """Those for which (n,) `mask` is true."""
        keys, *arrays = self
        return Atoms(keys[mask], *(array[mask] for array in arrays))


class Gathered(NamedTuple):
    """The anchors, by which coordinates are decoded, and the structures to be tested."""

    sides: tuple[ModelLayer, ModelLayer]
    anchors: Atoms
    tested: Atoms
    formulas: pd.Series


def gather(
    snapshot: Snapshot,
    from_: str,
    to: str,
    *,
    space: str | None = None,
    structures: int = 2_000,
    seed: int = 0,
) -> Gathered:
    """What `compare` needs: `structures` at most, none with the composition of an anchor.

    Raises: InvalidQuery if the head of `to` reads more than an atom's last layer; ModelNotFound,
    LayerNotFound if that layer is not in the store, AnchorsNotFound.
    """
    feeder, learner = snapshot.model_layer(from_), snapshot.model_layer(to)
    _require_head(learner.model)
    space = snapshot.space(space, [feeder.model, learner.model])
    last = max(layer.index for layer in resolve(learner.model).layers)
    tables = [
        snapshot.coordinates(space, *feeder, "atom"),
        snapshot.coordinates(space, *learner, "atom"),
        snapshot.embeddings(learner.model, last, "atom"),
    ]
    anchors = snapshot.frame(
        "SELECT a.structure_id, a.site_index, t.formula FROM catalog.main.spaces AS s "
        "JOIN catalog.main.anchors AS a USING (anchor_set) "
        "JOIN catalog.main.structures AS t ON t.id = a.structure_id WHERE s.id = ?",
        [space],
    )
    elsewhere = f"formula NOT IN ({literals(anchors['formula'].unique())})"
    chosen = paired_embeddings(
        snapshot, [feeder, learner], "structure", space=space, where=elsewhere,
        sample=structures, seed=seed,
    ).keys["structure_id"]  # fmt: skip
    formulas = snapshot.describe(chosen.tolist()).set_index("id")["formula"]
    at_anchors = _atoms(snapshot, tables, anchors["structure_id"].unique().tolist())
    is_anchor = pd.MultiIndex.from_frame(at_anchors.keys).isin(
        pd.MultiIndex.from_frame(anchors[_ATOM])
    )
    return Gathered(
        (feeder, learner),
        at_anchors.only(is_anchor),
        _atoms(snapshot, tables, chosen.tolist()),
        formulas,
    )


def compare(gathered: Gathered, *, seed: int = 0) -> pd.DataFrame:
    """The energies per atom that the head gives, against those of the model's own features."""
    from platonic_store.runtimes.heads import energies
    from platonic_store.runtimes.preparation import prepare

    feeder, learner = gathered.sides
    anchors, tested = gathered.anchors, gathered.tested
    mean = np.broadcast_to(anchors.features.mean(0), tested.features.shape)
    fed = {
        ("stitched", str(feeder)): decode(anchors.feeder, anchors.features, tested.feeder, seed),
        ("decoded", str(learner)): decode(anchors.learner, anchors.features, tested.learner, seed),
        ("own", str(learner)): tested.features,
        ("element", None): _element_means(anchors, tested.numbers),
        ("mean", None): mean,
    }
    (ready,) = prepare([learner.model])
    found = energies(
        ready,
        np.concatenate([rows.astype(np.float32) for rows in fed.values()]),
        np.tile(tested.numbers, len(fed)),
    )
    atoms = pd.DataFrame(found.reshape(len(fed), -1).T)
    by_structure = atoms.groupby(tested.keys["structure_id"].to_numpy()).mean()
    groups = gathered.formulas[by_structure.index].to_numpy()
    truth = by_structure[list(fed).index(("own", str(learner)))].to_numpy()
    rows = []
    for column, (way, by) in enumerate(fed):
        read = by_structure[column].to_numpy()
        score, low, high = r2(truth, read, groups, seed=seed)
        mae = float(np.abs(truth - read).mean())
        rows.append({"way": way, "fed": by, "r2": score, "low": low, "high": high, "mae": mae})
    frame = pd.DataFrame(rows)
    frame.insert(1, "readout", f"{learner.model}'s head")
    return frame.assign(n_train=len(anchors.keys), n_test=len(truth))


def _require_head(model: str) -> None:
    from platonic_store.runtimes.heads import has_head

    card = resolve(model)
    if not has_head(card):
        families = sorted({one.family for one in load_cards().values() if has_head(one)})
        raise InvalidQuery(
            f"{model} has no energy head that reads an atom's last layer and nothing else: "
            f"models of {', '.join(families)} have"
        )


def _atoms(snapshot: Snapshot, tables: list[VectorTable], ids: list[str]) -> Atoms:
    """All atoms of some structures, in the order of their keys."""
    condition = f"structure_id IN ({literals(ids)})"
    keys, numbers, vectors = None, None, []
    for table in tables:
        points = snapshot.points(table, condition)
        frame = points.keys.select([*_ATOM, "atomic_number"]).to_pandas().sort_values(_ATOM)
        keys, numbers = frame[_ATOM].reset_index(drop=True), frame["atomic_number"].to_numpy()
        vectors.append(points.vectors[frame.index.to_numpy()])
    assert keys is not None
    assert numbers is not None
    feeder, learner, features = vectors
    return Atoms(keys, feeder, learner, features, numbers)


def _element_means(anchors: Atoms, numbers: np.ndarray) -> np.ndarray:
    """(n, F) the mean features of each atom's element; of all anchors where no anchor is of it."""
    means = np.tile(anchors.features.mean(0, dtype=np.float64), (119, 1))
    for number in np.unique(anchors.numbers):
        means[number] = anchors.features[anchors.numbers == number].mean(0, dtype=np.float64)
    return means[numbers]
