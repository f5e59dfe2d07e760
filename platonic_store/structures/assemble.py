"""Crystals to one Arrow batch."""

import json
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from ase.data import chemical_symbols

from platonic_store.structures.checks import symmetry, volume
from platonic_store.structures.records import (
    STRUCTURE_SCHEMA,
    Crystal,
    Rejected,
    StructureBatch,
    content_hash,
    reduced_formula,
)


def assemble(crystals: list[Crystal], rejected: list[Rejected]) -> StructureBatch:
    """One StructureBatch of crystals that have passed `checks.fault`, in their order."""
    rows = [_row(crystal) for crystal in crystals]
    columns = [
        pa.array([row[field.name] for row in rows], type=field.type) for field in STRUCTURE_SCHEMA
    ]
    structures = pa.RecordBatch.from_arrays(columns, schema=STRUCTURE_SCHEMA)
    ids = [row["id"] for row in rows]
    tables = [
        _without_id(crystal.properties, id) for crystal, id in zip(crystals, ids, strict=True)
    ]
    return StructureBatch(structures, _properties(ids, tables), rejected)


def _row(crystal: Crystal) -> dict[str, Any]:
    digest = content_hash(crystal)
    counts = np.bincount(crystal.numbers)
    present = np.flatnonzero(counts)
    formula, elements = _composition(tuple(present.tolist()), tuple(counts[present].tolist()))
    spacegroup, orbits = symmetry(crystal)
    return {
        "id": crystal.id or digest,
        "content_hash": digest,
        "formula": formula,
        "elements": elements,
        "nsites": len(crystal.numbers),
        "distinct_sites": int((orbits == np.arange(len(orbits))).sum()),
        "numbers": crystal.numbers,
        "positions": crystal.positions.ravel(),
        "cell": crystal.cell.ravel(),
        "pbc": crystal.pbc.tolist(),
        "volume": volume(crystal),
        "spacegroup": spacegroup,
        "orbits": orbits,
    }


@lru_cache(maxsize=65536)
def _composition(numbers: tuple[int, ...], counts: tuple[int, ...]) -> tuple[str, list[str]]:
    """Reduced formula, and the sorted symbols."""
    from pymatgen.core.composition import Composition

    symbols = [chemical_symbols[number] for number in numbers]
    composition = Composition(dict(zip(symbols, counts, strict=True)))
    return reduced_formula(composition), sorted(symbols)


def _without_id(properties: dict[str, Any], id: str) -> dict[str, Any]:
    """The properties less "id"; one that differs from the structure's id becomes "source_id"."""
    if "id" not in properties:
        return properties
    rest = {name: value for name, value in properties.items() if name != "id"}
    return rest if str(properties["id"]) == id else {**rest, "source_id": properties["id"]}


def _properties(ids: list[str], tables: list[dict[str, Any]]) -> pa.RecordBatch:
    arrays = {"id": pa.array(ids, type=pa.string())}
    for name in dict.fromkeys(name for table in tables for name in table):
        column = _column([scalar(table.get(name)) for table in tables])
        if column is not None:
            arrays[str(name)] = column
    return pa.RecordBatch.from_pydict(arrays)


def scalar(value: Any) -> Any:
    """A bool, int, float or str; None for nothing and NaN; JSON text for what is nested."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return None if value != value else value
    if isinstance(value, dict | list | tuple | set):
        return json.dumps(value, default=_jsonable)
    return str(value)


def _jsonable(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "as_dict"):
        return value.as_dict()
    return list(value) if isinstance(value, set | frozenset) else str(value)


def _column(values: list[Any]) -> pa.Array | None:
    """The narrowest of bool, int64, double, string that holds every value; None if all are null."""
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return None
    if kinds == {bool}:
        return pa.array(values, type=pa.bool_())
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pa.array(values, type=pa.int64())
    if kinds <= {int, float}:
        numbers = [None if value is None else float(value) for value in values]
        return pa.array(numbers, type=pa.float64())
    texts = [value if value is None or isinstance(value, str) else str(value) for value in values]
    return pa.array(texts, type=pa.string())
