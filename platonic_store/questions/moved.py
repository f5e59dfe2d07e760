"""Where fine-tuning moved a model's embedding: by element and coordination, beside nulls."""

from typing import Annotated, Any

import numpy as np
import pandas as pd
from annotated_types import Ge

from platonic_store.errors import Call, InvalidQuery
from platonic_store.geometry.bias import group_effects
from platonic_store.geometry.displacement import displacement, displacement_if_shuffled
from platonic_store.questions.shared.declaration import Column, question
from platonic_store.questions.shared.pairing import paired_embeddings
from platonic_store.questions.shared.parameters import OneModel, Seed
from platonic_store.questions.shared.training_sets import coordinations
from platonic_store.runtimes.cards import RANDOM
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot

FEWEST = 10  # structures of a group


@question(
    Column("model", "string", "MODEL@LAYER that was fine-tuned."),
    Column("parent", "string", "MODEL@LAYER that it began as."),
    Column("kind", "string", "all; element; environment (with its coordination number)."),
    Column("value", "string", "The group of atoms."),
    Column("moved", "double", "Mean distance from the parent's.", unit="spread of the model"),
    Column("null", "double", "The same from another atom of its element.", unit="spread"),
    Column("twin", "double", "The same between parent and twin.", unit="spread of the twin"),
    Column("effect", "double", "Mean of the group, less that of all.", unit="std. dev."),
    Column("p", "double", "Of the effect, by permutation."),
    Column("p_any", "double", "Adjusted for the number of groups."),
    Column("atoms", "int64", "Atoms of the group."),
    Column("structures", "int64", "Structures that hold them."),
    caveat="to have moved is neither better nor worse: it says where to compare with reference "
    "data; a move as large as the null keeps nothing but the element",
)
def moved(
    snapshot: Snapshot,
    model: OneModel,
    parent: OneModel,
    *,
    twin: Annotated[
        str | None,
        "A model of the parent's network, trained otherwise or not at all; by default "
        "control:random:PARENT, if the store has it.",
    ] = None,
    atoms: Annotated[int, "Atoms to compare, at most.", Ge(20)] = 5000,
    seed: Seed = 0,
) -> pd.DataFrame:
    """Elements and environments whose embedding by a model is farthest from its parent's.

    The parent's vectors are turned and scaled as a whole to fit the model's, on the other half of
    the structures: what is left of the distance is the atom's move. A row for all atoms, then one
    for each group of at least ten structures, the farthest first.

    Raises: ModelNotFound, LayerNotFound, InvalidQuery with too few structures.
    """
    sides = [lookup.model_layer(snapshot, text) for text in (model, parent)]
    if sides[0] == sides[1]:
        raise InvalidQuery(f"{sides[0]} is compared with itself", "name its parent")
    sides += _twin(snapshot, twin, sides[1])
    both = paired_embeddings(snapshot, sides, sample=atoms, seed=seed)
    structures = both.keys["structure_id"].to_numpy()
    if len(np.unique(structures)) < FEWEST:
        raise InvalidQuery(
            f"{len(np.unique(structures))} structures in common: {FEWEST} are needed",
            Call("ingest", models=[side.model for side in sides]),
        )
    child, base, *others = both.vectors
    numbers = both.keys["atomic_number"].to_numpy()
    table = both.keys.assign(
        coordination=_coordination(snapshot, both.keys),
        moved=displacement(base, child, structures, seed),
        null=displacement_if_shuffled(base, child, structures, numbers, seed=seed),
        twin=displacement(base, others[0], structures, seed) if others else np.nan,
    )
    rows = [_row("all", "", table), *_groups(table, seed)]
    return pd.DataFrame(rows).assign(model=str(sides[0]), parent=str(sides[1]))


def _twin(snapshot: Snapshot, named: str | None, parent: ModelLayer) -> list[ModelLayer]:
    """The twin at the parent's layer, if there is one."""
    if named is not None:
        return [lookup.model_layer(snapshot, named)]
    name = f"{RANDOM}{parent.model}"
    there = {table.layer for table in snapshot.tables if table.model == name and not table.space}
    return [ModelLayer(name, parent.layer)] if parent.layer in there else []


def _coordination(snapshot: Snapshot, keys: pd.DataFrame) -> np.ndarray:
    """How many neighbours each atom has, (n,)."""
    of = coordinations(snapshot, keys["structure_id"].unique().tolist())
    sites = zip(keys["structure_id"], keys["site_index"], strict=True)
    return np.array([of[id_][site] for id_, site in sites])


def _groups(table: pd.DataFrame, seed: int) -> list[dict[str, Any]]:
    """A row a group, the farthest first.

    Permuted are the means of a structure's atoms of one element and coordination, as they are not
    independent.
    """
    from ase.data import chemical_symbols

    symbols = table["atomic_number"].map(lambda number: chemical_symbols[number])
    table = table.assign(
        element=symbols, environment=symbols + " " + table["coordination"].astype(str)
    )
    units = table.groupby(["structure_id", "element", "environment"], as_index=False)[
        "moved"
    ].mean()
    found = []
    for kind in ("element", "environment"):
        for value, atoms in table.groupby(kind):
            if atoms["structure_id"].nunique() >= FEWEST and len(atoms) < len(table):
                found.append((kind, str(value), atoms))
    if not found:
        return []
    members = np.stack([(units[kind] == value).to_numpy() for kind, value, _ in found])
    effects = group_effects(units["moved"].to_numpy(), members, seed=seed)
    rows = [
        _row(kind, value, atoms) | {name: float(of[i]) for name, of in effects._asdict().items()}
        for i, (kind, value, atoms) in enumerate(found)
    ]
    return sorted(rows, key=lambda row: (-row["moved"], row["kind"], row["value"]))


def _row(kind: str, value: str, atoms: pd.DataFrame) -> dict[str, Any]:
    return {
        "kind": kind,
        "value": value,
        **{name: float(atoms[name].mean()) for name in ("moved", "null", "twin")},
        "effect": np.nan,
        "p": np.nan,
        "p_any": np.nan,
        "atoms": len(atoms),
        "structures": atoms["structure_id"].nunique(),
    }
