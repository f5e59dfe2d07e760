"""A worker's answers as rows of tables: arrays in, Arrow out."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from platonic_store.arrow import vector_array, vector_matrix
from platonic_store.geometry.pooling import mean_by_structure
from platonic_store.runtimes.process import Embedded
from platonic_store.storage.layout import Level


class Answered(NamedTuple):
    """The answers to several requests together.

    atoms: as `Embedded.table`. is_first: (n,) bool, of the atoms, each structure's first.
    """

    atoms: pa.Table
    is_first: np.ndarray
    structure_ids: list[str]
    rejected: list[tuple[str, str]]


def gather(answers: Sequence[Embedded]) -> Answered:
    """Put at least one answer together."""
    atoms = pa.Table.from_batches([answer.table for answer in answers])
    ids = atoms["id"].to_numpy()
    is_first = np.r_[True, ids[1:] != ids[:-1]][: len(ids)]
    rejected = [pair for answer in answers for pair in answer.rejected]
    return Answered(atoms, is_first, ids[is_first].tolist(), rejected)


def vectors(
    answered: Answered, sites: pa.Table, layers: Sequence[int]
) -> dict[tuple[int, Level], pa.Table]:
    """Rows of the vector tables, by layer and level.

    sites: atomic_number and orbit of every atom that was answered, in that order.
    """
    atoms, structure = answered.atoms, np.cumsum(answered.is_first) - 1
    keys = {"structure_id": atoms["id"], "site_index": atoms["site_index"]}
    keys |= {name: sites[name] for name in sites.column_names}
    tables: dict[tuple[int, Level], pa.Table] = {}
    for layer in layers:
        found = vector_matrix(atoms[f"layer_{layer}"])
        tables[layer, "atom"] = pa.table({**keys, "vector": vector_array(found)})
        means = vector_array(mean_by_structure(found, structure))
        rows = pa.table({"structure_id": answered.structure_ids, "vector": means})
        tables[layer, "structure"] = rows
    return tables


def predictions(answered: Answered, outputs: Sequence[str]) -> dict[str, pa.Table]:
    """Rows of the bulk tables of energies and forces, without model and run."""
    atoms, tables = answered.atoms, {}
    if "energy" in outputs:
        rows = pa.table({"structure_id": atoms["id"], "energy": atoms["energy"]})
        is_first = pa.array(answered.is_first, pa.bool_())
        tables["structure_predictions"] = rows.filter(is_first)
    if "forces" in outputs:
        forces = vector_matrix(atoms["forces"]).T
        components: Mapping[str, np.ndarray] = dict(zip(("fx", "fy", "fz"), forces, strict=True))
        keys = {"structure_id": atoms["id"], "site_index": atoms["site_index"]}
        tables["atom_predictions"] = pa.table({**keys, **components})
    return tables
