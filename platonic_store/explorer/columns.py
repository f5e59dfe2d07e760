"""What a map's points can be coloured by: properties, chemistry, typicality, disagreement."""

from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from platonic_store.errors import InvalidQuery
from platonic_store.explorer import rows
from platonic_store.explorer.rows import cached
from platonic_store.plots.space_map import GROUPS, group_of
from platonic_store.questions.shared.properties import numeric_properties, property_types
from platonic_store.storage.layout import Level
from platonic_store.storage.snapshot import ModelLayer, Snapshot
from platonic_store.storage.sqltext import quote
from platonic_store.structures.quiet import quiet

_MOST_CATEGORIES = 24
_DULL = ("structure_id", "formula", "content_hash", "added_at", "spacegroup", "index")
_SYSTEMS = (
    (2, "triclinic"), (15, "monoclinic"), (74, "orthorhombic"), (142, "tetragonal"),
    (167, "trigonal"), (194, "hexagonal"), (230, "cubic"),
)  # fmt: skip
P_WORD = "share of the calibration at least as atypical; not confidence"
DISAGREE_WORD = "how few nearest typical atoms models share; not an error"


class Colour(NamedTuple):
    """One thing to colour by. caveat: what it does not say, in a word."""

    name: str
    label: str
    kind: Literal["number", "category"]
    levels: tuple[Level, ...]
    caveat: str = ""


class Categories(NamedTuple):
    """codes: (n,) uint8, 255 for none; names and colours: of each code, where they are fixed."""

    codes: np.ndarray
    names: list[str]
    colours: list[str]


@cached
def available(snapshot: Snapshot) -> list[Colour]:
    """All, the most telling first."""
    both: tuple[Level, ...] = ("structure", "atom")
    found = [
        Colour("group", "chemical group", "category", both),
        Colour("element", "element", "category", ("atom",)),
        Colour("system", "crystal system", "category", both),
    ]
    if len(scored(snapshot)) > 1:
        found += [Colour("disagreement", "disagreement", "number", both, DISAGREE_WORD)]
    found += [
        Colour(f"p:{side}", f"typicality p by {side.model}", "number", both, P_WORD)
        for side in scored(snapshot)
    ]
    numeric = numeric_properties(snapshot)
    found += [Colour(name, name, "number", both) for name in numeric if name not in _DULL]
    texts = [name for name, kind in property_types(snapshot).items() if kind == "VARCHAR"]
    for name in texts:
        if name not in _DULL and 1 < _distinct(snapshot, name) <= _MOST_CATEGORIES:
            found.append(Colour(name, name, "category", both))
    return found


@cached
def scored(snapshot: Snapshot) -> dict[ModelLayer, str]:
    """The newest reference of each model's layer that `score` has scored."""
    found = snapshot.rows(
        "SELECT model, layer, max_by(id, created_at) FROM catalog.main.reference_sets "
        "GROUP BY model, layer"
    )
    order = list(snapshot.models)
    known = {ModelLayer(model, layer): id_ for model, layer, id_ in found if model in order}
    return dict(sorted(known.items(), key=lambda one: (order.index(one[0].model), one[0].layer)))


def find(snapshot: Snapshot, level: Level, name: str) -> Colour:
    """Raises: InvalidQuery, naming what there is."""
    for colour in available(snapshot):
        if colour.name == name and level in colour.levels:
            return colour
    known = ", ".join(one.name for one in available(snapshot) if level in one.levels)
    raise InvalidQuery(f"{level}s cannot be coloured by {name}", f"choose one of {known}")


@cached
def numbers(snapshot: Snapshot, level: Level, name: str) -> np.ndarray:
    """(n,) float32 of every row, NaN where it is not known.

    A property of a structure is that of its atoms. Raises: InvalidQuery.
    """
    find(snapshot, level, name)
    if name == "disagreement":
        return _filled(snapshot, level, _disagreement(level))
    if name.startswith("p:"):
        sides = {f"p:{side}": reference for side, reference in scored(snapshot).items()}
        table = f"{level}_scores"
        keys = "structure_id" if level == "structure" else "structure_id, site_index"
        sql = f"SELECT {keys}, p AS value FROM {table} WHERE reference = '{sides[name]}'"
        return _filled(snapshot, level, sql)
    found = _filled(
        snapshot,
        "structure",
        f"SELECT structure_id, {quote(name)}::DOUBLE AS value FROM structure",
    )
    return found[rows.atoms(snapshot).structure] if level == "atom" else found


@cached
def categories(snapshot: Snapshot, level: Level, name: str) -> Categories:
    """Raises: InvalidQuery."""
    find(snapshot, level, name)
    if level == "atom" and name in ("group", "element"):
        return _of_atoms(snapshot, name)
    of = _of_structures(snapshot, name)
    return of._replace(codes=of.codes[rows.atoms(snapshot).structure]) if level == "atom" else of


def _disagreement(level: Level) -> str:
    if level == "structure":
        return "SELECT structure_id, disagreement AS value FROM disagreement"
    return (
        "SELECT structure_id, site_index, 1 - avg(agreement) AS value "
        "FROM atom_agreement GROUP BY ALL"
    )


def _filled(snapshot: Snapshot, level: Level, sql: str) -> np.ndarray:
    table = snapshot.execute(sql).to_arrow_table()
    filled = np.full(rows.count(snapshot, level), np.nan, dtype="<f4")
    which = rows.rows_of(snapshot, level, table)
    values = np.asarray(table["value"].cast(pa.float64()).fill_null(np.nan))
    filled[which[which >= 0]] = values[which >= 0]
    return filled


def _of_atoms(snapshot: Snapshot, name: str) -> Categories:
    from ase.data import chemical_symbols

    number = rows.atoms(snapshot).number
    present = np.unique(number)
    symbols = [chemical_symbols[z] for z in present]
    of_row = np.searchsorted(present, number)
    if name == "element":
        return Categories(of_row.astype(np.uint8), symbols, [])
    codes = np.array([list(GROUPS).index(group_of(symbol)) for symbol in symbols], dtype=np.uint8)
    return Categories(codes[of_row], list(GROUPS), list(GROUPS.values()))


@cached
def _of_structures(snapshot: Snapshot, name: str) -> Categories:
    if name == "group":
        return _groups(snapshot)
    if name == "system":
        limits = [last for last, _ in _SYSTEMS]
        numbers_ = snapshot.execute("SELECT spacegroup FROM structure ORDER BY structure_id")
        groups = np.array([row[0] or 0 for row in numbers_.fetchall()])
        codes = np.where(groups > 0, np.searchsorted(limits, groups), 255)
        return Categories(codes.astype(np.uint8), [word for _, word in _SYSTEMS], [])
    table = snapshot.execute(
        f"SELECT {quote(name)} AS value FROM structure ORDER BY structure_id"
    ).to_arrow_table()
    names = sorted(one for one in pc.unique(table["value"]).to_pylist() if one is not None)
    codes = pc.index_in(table["value"], pa.array(names, pa.string()))
    return Categories(np.asarray(codes.fill_null(255)).astype(np.uint8), names, [])


@quiet()
def _groups(snapshot: Snapshot) -> Categories:
    """The group of a structure's most electronegative element."""
    from pymatgen.core import Element

    found = snapshot.rows("SELECT elements FROM structure ORDER BY structure_id")
    symbols = {symbol for (elements,) in found for symbol in elements}
    rank = {symbol: np.nan_to_num(Element(symbol).X) for symbol in symbols}
    code = {symbol: list(GROUPS).index(group_of(symbol)) for symbol in symbols}
    codes = [code[max(elements, key=lambda one: (rank[one], one))] for (elements,) in found]
    return Categories(np.array(codes, dtype=np.uint8), list(GROUPS), list(GROUPS.values()))


def _distinct(snapshot: Snapshot, name: str) -> int:
    ((count,),) = snapshot.rows(f"SELECT count(DISTINCT {quote(name)}) FROM structure")
    return int(count)
