"""The 288 AFLOW prototype crystals that pymatgen ships, named by mineral where they have one."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from platonic_store.structures import objects
from platonic_store.structures.records import Crystal, Rejected, reduced_formula

GREEK = {"alpha", "beta", "gamma", "delta"}


def records() -> Iterator[Crystal | Rejected]:
    """The prototypes in pymatgen's order; properties mineral, pearson, aflow, strukturbericht.

    An id is the first of these that no other prototype has: the mineral (its first name, without
    TeX and leading bracket; the formula where there is none), that with the formula, that with the
    AFLOW label.
    """
    from monty.serialization import loadfn
    from pymatgen.core import Structure

    found = find_spec("pymatgen.analysis.prototypes")
    assert found is not None
    assert found.origin is not None
    path = Path(found.origin).with_name("aflow_prototypes.json.gz")
    entries = loadfn(path, cls=json.JSONDecoder)  # not monty's: its StructureNL takes seconds
    structures = [Structure.from_dict(entry["snl"]) for entry in entries]
    tags = [entry["tags"] for entry in entries]
    formulas = [reduced_formula(structure.composition) for structure in structures]
    for structure, tag, id in zip(structures, tags, _ids(tags, formulas), strict=True):
        kept = {name: None if value in ("", "None") else value for name, value in tag.items()}
        yield objects.from_pymatgen(structure, id)._replace(properties=kept)


def _ids(tags: list[dict[str, Any]], formulas: list[str]) -> list[str]:
    names = [
        _readable(tag["mineral"], formula) for tag, formula in zip(tags, formulas, strict=True)
    ]
    with_formula = [
        name if formula in name else f"{name} {formula}"
        for name, formula in zip(names, formulas, strict=True)
    ]
    labelled = [f"{name} {tag['aflow']}" for name, tag in zip(with_formula, tags, strict=True)]
    choices = [names, with_formula, labelled]
    counts = [Counter(choice) for choice in choices]
    return [
        next((name for name, count in zip(row, counts, strict=True) if count[name] == 1), row[-1])
        for row in zip(*choices, strict=True)
    ]


def _readable(mineral: str, formula: str) -> str:
    """'alpha' → 'alpha-Ga', '(Cubic) Perovskite' → 'Perovskite', 'Halite, Rock Salt' → 'Halite'."""
    if mineral in GREEK:
        return f"{mineral}-{formula}"
    plain = re.sub(r"[$\\'{}]", "", mineral.split(", ")[0])
    return re.sub(r"^\([^)]*\) ", "", plain).strip() or formula
