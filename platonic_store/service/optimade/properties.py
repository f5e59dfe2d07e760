"""The properties of a structure by their OPTIMADE names, each with its type and its SQL.

What the standard does not know has the prefix `_platonic_`: the store's own columns of the view
`structure`, and every property of its sources. The prefix is not registered with OPTIMADE.
"""

import re
from functools import cache
from string import ascii_lowercase, ascii_uppercase
from typing import Any, NamedTuple

from platonic_store.storage.snapshot import Snapshot
from platonic_store.storage.sqltext import literals, quote

PREFIX = "_platonic_"

# `s` is the view `structure`; with what follows from the atoms, which is read where it is named:
# columns that begin with #, as no property of a source does.
STRUCTURES = "structure AS s"
WITH_ATOMS = """
(
    SELECT
        *, list_transform(elements, lambda e: len(list_filter("#symbols", lambda x: x = e)))
        AS "#counts"
    FROM (
        SELECT
            structure.*, numbers AS "#numbers", positions AS "#positions", cell AS "#cell",
            pbc AS "#pbc", list_transform(numbers, lambda z: element_symbol(z)) AS "#symbols"
        FROM structure JOIN crystals USING (structure_id)
    )
) AS s"""
_UNITS = "list_reduce(@counts, lambda x, y: gcd(x, y))"
_ANONYMOUS = [
    big + small for small in ("", *ascii_lowercase[:4]) for big in ascii_uppercase
]  # A … Z, Aa … Za, more than there are elements


def _formula(symbols: str, counts: str) -> str:
    """SQL: symbols, each followed by its count in the smallest whole numbers."""
    number = f"({counts})[i] // {_UNITS}"
    return (
        f"array_to_string(list_transform(range(1, len(@counts) + 1), lambda i: ({symbols})[i] || "
        f"CASE WHEN {number} = 1 THEN '' ELSE ({number})::BIGINT::VARCHAR END), '')"
    )


# @counts is the column "#counts", and so on.
_STANDARD = {
    "id": "s.structure_id",
    "type": "'structures'",
    "last_modified": "date_trunc('second', s.added_at)",
    "elements": "s.elements",
    "nelements": "s.nelements",
    "nsites": "s.nsites",
    "chemical_formula_descriptive": "s.formula",
    "chemical_formula_reduced": _formula("s.elements", "@counts"),
    "chemical_formula_anonymous": _formula(
        f"[{literals(_ANONYMOUS)}]", "list_reverse_sort(@counts)"
    ),
    "elements_ratios": "list_transform(@counts, lambda n: n / len(@numbers))",
    "dimension_types": "list_transform(@pbc, lambda p: p::INTEGER)",
    "nperiodic_dimensions": "len(list_filter(@pbc, lambda p: p))",
    "lattice_vectors": "list_transform(range(3), lambda i: CASE WHEN @pbc[i + 1] "
    "OR list_max(list_transform(@cell[3 * i + 1:3 * i + 3], lambda x: abs(x))) > 0 "
    "THEN @cell[3 * i + 1:3 * i + 3] ELSE [NULL, NULL, NULL]::DOUBLE[] END)",
    "cartesian_site_positions": "list_transform(range(len(@numbers)), "
    "lambda i: @positions[3 * i + 1:3 * i + 3])",
    "species_at_sites": "@symbols",
    # In the order of the sites: pymatgen's reader takes them for the sites where they are as many.
    "species": "list_transform("
    "list_filter(@symbols, lambda e, i: list_position(@symbols, e) = i), lambda e: "
    "{'name': e, 'chemical_symbols': [e], 'concentration': [1.0::DOUBLE]})",
    "structure_features": "[]::VARCHAR[]",
    "space_group_it_number": "CASE WHEN list_bool_and(@pbc) THEN s.spacegroup END",
}
# Columns of `structure` that are known under a name of the standard, or are of no use elsewhere.
_KNOWN_OTHERWISE = {"structure_id", "elements", "nelements", "nsites", "added_at"}
_MEANINGS = {
    "formula": ("The reduced formula as pymatgen writes it.", None),
    "spacegroup": ("The number of the space group that moyo finds.", None),
    "volume": ("The volume of the cell.", "Å^3"),
    "content_hash": ("A hash of species, cell and positions.", None),
}
# The newest reference of each model that has scored.
_REFERENCES = "SELECT model, max_by(id, created_at) FROM reference GROUP BY model ORDER BY model"
_SCORE = "SELECT any_value(p) FROM structure_scores AS p WHERE p.structure_id = s.structure_id"
_P = "Typicality p, which is not confidence: how often what calibrates looks as unusual to"
_TYPES = {
    "VARCHAR": "string",
    "BOOLEAN": "boolean",
    "DOUBLE": "float",
    "FLOAT": "float",
    **dict.fromkeys(["SMALLINT", "INTEGER", "BIGINT", "HUGEINT"], "integer"),
    **dict.fromkeys(["TIMESTAMP", "TIMESTAMP WITH TIME ZONE"], "timestamp"),
}
_ITEMS = {
    **dict.fromkeys(["elements", "species_at_sites", "structure_features"], "string"),
    "elements_ratios": "float",
    "dimension_types": "integer",
}


class Property(NamedTuple):
    """A property: its OPTIMADE type, its SQL, and of a list the type of its items.

    sql is "NULL" for what the standard knows and a store does not have. model: whose number it is.
    """

    name: str
    type: str
    sql: str
    description: str
    unit: str | None = None
    items: str | None = None
    model: str | None = None

    @property
    def is_served(self) -> bool:
        return self.sql != "NULL"

    @property
    def is_sortable(self) -> bool:
        return self.is_served and self.type not in ("list", "dictionary")


def properties(snapshot: Snapshot) -> dict[str, Property]:
    """Every property by its name: the standard's, the columns of `structure`, typicality."""
    known = dict(_standard())
    for column, kind, *_ in snapshot.rows("DESCRIBE structure"):
        if column in _KNOWN_OTHERWISE:
            continue
        type_ = _TYPES.get(kind.split("(")[0], "string")
        value = f"s.{quote(column)}"
        if type_ == "float":
            value = f"CASE WHEN isfinite({value}) THEN {value} END"
        elif kind.split("(")[0] not in _TYPES:
            value = f"{value}::VARCHAR"
        meaning, unit = _MEANINGS.get(column, (f"{column!r} of the source.", None))
        name = _unused(_identifier(column), known)
        known[name] = Property(name, type_, value, meaning, unit)
    for model, reference in snapshot.rows(_REFERENCES):
        name = _unused(_identifier(f"p_{model}"), known)
        value = f"({_SCORE} AND p.reference = {literals([reference])})"
        known[name] = Property(name, "float", value, f"{_P} {model}.", model=model)
    return known


def relation(sql: str) -> str:
    """What to select from, so that SQL made of properties has what it names."""
    return WITH_ATOMS if '"#' in sql else STRUCTURES


@cache
def _standard() -> dict[str, Property]:
    """The properties that the standard has of structures, as optimade-python-tools describes."""
    from optimade.models import StructureResource
    from optimade.server.schemas import retrieve_queryable_properties

    described: dict[str, Any] = retrieve_queryable_properties(
        StructureResource, ("id", "type", "attributes")
    )
    known = {}
    for name, one in described.items():
        type_ = "string" if name == "type" else one["type"].value
        text = one["description"].split("\n")[0]
        sql = re.sub(r"@(\w+)", r's."#\1"', _STANDARD.get(name, "NULL"))
        known[name] = Property(name, type_, sql, text, one.get("unit"), _ITEMS.get(name))
    return known


def _identifier(column: str) -> str:
    return PREFIX + re.sub(r"[^a-z0-9]+", "_", column.lower()).strip("_")


def _unused(name: str, known: dict[str, Property]) -> str:
    """The name, with a number behind it where another column has it already."""
    number = 1
    unused = name
    while unused in known:
        number += 1
        unused = f"{name}_{number}"
    return unused
