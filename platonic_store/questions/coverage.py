"""Whether the atoms of structures have anything like them in what a model was trained on."""

from typing import Annotated, Any

import numpy as np
import pandas as pd
from ase.data import chemical_symbols

from platonic_store.geometry import coverage as geometry
from platonic_store.geometry.coverage import Nearest
from platonic_store.questions.shared.asked_sets import EXTERNAL, asked_set, known_query
from platonic_store.questions.shared.declaration import Column, StructureMark, question
from platonic_store.questions.shared.embedded_sets import EmbeddedSet
from platonic_store.questions.shared.inputs import ExternalStructure
from platonic_store.questions.shared.parameters import Level, Model, OneReferenceStore
from platonic_store.questions.shared.reference_stores import reference_model
from platonic_store.questions.shared.training_sets import (
    TrainingSet,
    coordination,
    coordinations,
    training_set,
)
from platonic_store.storage.snapshot import Snapshot

CAVEAT = (
    "coverage is not error: it says how near the nearest environment of the reference looks to the "
    "model, not how right the model is there"
)


@question(
    Column("structure_id", "string", "The structure."),
    Column("p", "double", "Share of new compositions of the reference's kind at least as far."),
    Column("distance", "double", "1 − cosine to the nearest atom of the reference."),
    Column("site_index", "int32", "The atom; of a structure the one that is strangest."),
    Column("element", "string", "The atom's element."),
    Column("coordination", "int32", "How many neighbours it has."),
    Column("nearest_id", "string", "The reference's crystal that holds the nearest atom."),
    Column("nearest_site", "int32", "The site of that atom."),
    Column("nearest_formula", "string", "The crystal's formula."),
    Column("lacks", "list<string>", "Elements, and coordinations, that the reference lacks."),
    Column("of_element", "int64", "Atoms of the element in the reference."),
    Column("of_coordination", "int64", "Those of them with as many neighbours."),
    Column("model", "string", "The model."),
    Column("layer", "int32", "Its layer."),
    Column("reference", "string", "The reference, and its snapshot."),
    caveat=CAVEAT,
)
def coverage(
    snapshot: Snapshot,
    query: Annotated[
        Any, "An id, a list of ids, a file or an object; by default all.", StructureMark()
    ] = None,
    *,
    reference: OneReferenceStore,
    model: Model = None,
    level: Level = "structure",
) -> pd.DataFrame:
    """The nearest atom of a reference store, such as a training set, and whether it is near.

    A structure has the row of its strangest atom. The same composition counts: what is itself in
    the reference is at distance 0. Both stores need embeddings by the same weights and layer.
    Coverage is not error. See docs/questions/coverage.md.

    Raises: StructureNotFound, NotEmbedded, ModelNotFound, LayerNotFound, UnreadableSource;
    InvalidQuery for a reference that may not be opened or is too small; StoreNotFound,
    StoreUnreachable, CheckpointMismatch of the reference.
    """
    name, other, side = reference_model(snapshot, reference, model)
    asked = known_query(snapshot, query, side)
    trained = training_set(other, side)
    these = asked_set(snapshot, asked, side, 0)
    near = geometry.nearest_known(these.atoms, trained.known.atoms)
    rows = _rows(these, trained, near, _coordination(snapshot, asked, these))
    if level == "structure":
        strange = geometry.strangeness(near.far, these.atoms.elements, trained.scale)
        rows = _strangest(rows, strange, trained)
    return rows.assign(model=side.model, layer=side.layer, reference=name)


def _rows(
    these: EmbeddedSet, trained: TrainingSet, near: Nearest, neighbours: np.ndarray
) -> pd.DataFrame:
    """A row for each atom. neighbours: (n,) coordination numbers."""
    elements = these.atoms.elements
    found = trained.known.sites.iloc[near.row]
    symbols = np.array(chemical_symbols)[elements]
    of_element = trained.census[elements].sum(1)
    of_coordination = trained.census[elements, neighbours]
    return pd.DataFrame(
        {
            "structure_id": these.sites["structure_id"].to_numpy(),
            "p": geometry.p_of_atoms(near.far, elements, trained.scale),
            "distance": near.distance,
            "site_index": these.sites["site_index"].to_numpy(),
            "element": symbols,
            "coordination": neighbours,
            "nearest_id": found["structure_id"].to_numpy(),
            "nearest_site": found["site_index"].to_numpy(),
            "nearest_formula": found["structure_id"].map(trained.formulas).to_numpy(),
            "lacks": [
                _lacking(*one)
                for one in zip(symbols, neighbours, of_element, of_coordination, strict=True)
            ],
            "of_element": of_element,
            "of_coordination": of_coordination,
        }
    )


def _lacking(symbol: str, neighbours: int, of_element: int, of_coordination: int) -> list[str]:
    if not of_element:
        return [symbol]
    if not of_coordination:
        return [f"{symbol} with {neighbours} neighbour{'' if neighbours == 1 else 's'}"]
    return []


def _strangest(rows: pd.DataFrame, strange: np.ndarray, trained: TrainingSet) -> pd.DataFrame:
    """A row for each structure: that of its strangest atom, with all that is lacking."""
    by_structure = pd.Series(strange).groupby(rows["structure_id"])
    worst = rows.loc[by_structure.idxmax()].reset_index(drop=True)
    worst["p"] = geometry.p_of_structures(
        np.asarray(by_structure.max(), dtype=np.float64), trained.scale
    )
    lacking = rows.explode("lacks").dropna(subset=["lacks"])
    lists = lacking.groupby("structure_id")["lacks"].agg(lambda one: sorted(set(one)))
    worst["lacks"] = [lists.get(id_, []) for id_ in worst["structure_id"]]
    return worst


def _coordination(
    snapshot: Snapshot, asked: list[str] | ExternalStructure | None, these: EmbeddedSet
) -> np.ndarray:
    """The coordination number of each of the atoms, (n,)."""
    if isinstance(asked, ExternalStructure):
        found = {EXTERNAL: coordination(asked._asdict())}
    else:
        found = coordinations(snapshot, these.ids.tolist())
    sites = zip(these.sites["structure_id"], these.sites["site_index"], strict=True)
    return np.array([found[id_][site] for id_, site in sites], dtype=np.int64)
