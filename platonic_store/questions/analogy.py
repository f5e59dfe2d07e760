"""Analogies: sums and differences of what a model thinks of crystals, answered by crystals.

`CaTiO3 - Ca + Sr` exchanges an element, `mp-1 - mp-2 + mp-3` carries a difference over. Operators
stand between spaces, since ids have hyphens.
"""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from platonic_store.errors import InvalidQuery
from platonic_store.geometry.arithmetic import combine
from platonic_store.questions import similar as search
from platonic_store.questions.shared import inputs
from platonic_store.questions.shared.inputs import ExternalStructure
from platonic_store.storage.snapshot import Snapshot, VectorTable
from platonic_store.storage.sqltext import literals, quote

_OPERATOR = re.compile(r"(?:^|\s+)([+\-−])(?=\s|$)")
_EXAMPLE = 'write it like "CaTiO3 - Ca + Sr", with a space on each side of + and -'
# The properties that say which entry of a formula is the lowest in energy, the best one first.
_ENERGIES = ("e_above_hull", "energy_above_hull", "formation_energy_per_atom", "energy_per_atom")


class Term(NamedTuple):
    """One term of an expression: its sign, what was written, and what that is.

    ids: the structures of the store that it stands for, with equal weight.
    newcomer: the atoms of a file's structure, embedded now.
    element: the atomic number, of an element that is exchanged.
    """

    sign: int
    text: str
    ids: tuple[str, ...] = ()
    newcomer: ExternalStructure | None = None
    element: int | None = None


def parse(expression: str) -> list[tuple[int, str]]:
    """The signs and texts of an expression's terms. Raises InvalidQuery."""
    first, *rest = _OPERATOR.split(expression.strip())
    texts = [text.strip() for text in (first, *rest[1::2])]
    signs = [1, *(1 if operator == "+" else -1 for operator in rest[::2])]
    if not first and len(texts) > 1:
        signs, texts = signs[1:], texts[1:]
    if len(texts) < 2:
        raise InvalidQuery(f"{expression!r} has one term, an analogy two or more: {_EXAMPLE}")
    if "" in texts:
        raise InvalidQuery(f"a term is missing in {expression!r}: {_EXAMPLE}")
    if signs[0] < 0:
        raise InvalidQuery(f"{expression!r} takes away from nothing: {_EXAMPLE}")
    return list(zip(signs, texts, strict=True))


def met(
    take: Callable[[], AbstractContextManager[Snapshot]],
    expression: str,
    model: str | None,
    layer: int | None,
) -> str | list[Term]:
    """An expression that any snapshot can answer: where it names files, its terms, these embedded.

    No snapshot is held while the model runs.

    Raises: InvalidQuery, UnreadableSource, StructureNotFound.
    """
    parsed = parse(expression)
    if not any(Path(text).exists() for _, text in parsed):
        return expression
    with take() as snapshot:
        terms = [_known(snapshot, sign, text) for sign, text in parsed]
    return [
        term
        if term.ids or term.element
        else term._replace(newcomer=inputs.met(take, term.text, model, layer))
        for term in _settled(terms)
    ]


def analogy(
    snapshot: Snapshot,
    expression: str | list[Term],
    *,
    model: str | None = None,
    layer: int | None = None,
    across: str | None = None,
    space: str | None = None,
    k: int = 10,
    where: str | None = None,
) -> pd.DataFrame:
    """The k structures nearest to what an expression comes to, its own terms left out.

    See `Store.analogy` for the arguments. The frame has rank, distance (1 − cosine), id and the
    columns of the `structure` view.
    """
    hits = find(
        snapshot,
        expression,
        model=model,
        layer=layer,
        across=across,
        space=space,
        k=k,
        where=where,
    )
    return hits.merge(snapshot.describe(hits["id"].tolist()), on="id", how="left")


def find(
    snapshot: Snapshot,
    expression: str | list[Term],
    *,
    model: str | None = None,
    layer: int | None = None,
    across: str | None = None,
    space: str | None = None,
    k: int = 10,
    where: str | None = None,
) -> pd.DataFrame:
    """`analogy`, with rank, distance and id alone."""
    model = snapshot.model(model)
    layer = snapshot.layer(model, layer)
    if across is not None or space is not None:
        space = snapshot.space(space, [model, snapshot.model(across or model)])
    terms = read(snapshot, expression) if isinstance(expression, str) else expression
    own = {id_ for term in terms for id_ in term.ids}
    hits = search.find(
        snapshot,
        vector(snapshot, terms, model, layer, space),
        model=model,
        layer=layer,
        across=across,
        space=space,
        k=k + len(own),
        where=where,
    )
    hits = hits[~hits["id"].isin(own)].head(k)
    return hits.assign(rank=np.arange(1, len(hits) + 1)).reset_index(drop=True)


def read(snapshot: Snapshot, expression: str) -> list[Term]:
    """The terms of an expression that names what is in the store. Raises InvalidQuery."""
    terms = _settled([_known(snapshot, *one) for one in parse(expression)])
    if files := [term.text for term in terms if not term.ids and not term.element]:
        raise InvalidQuery(f"{files[0]} is a file: here a term is an id, a formula or an element")
    return terms


def vector(
    snapshot: Snapshot,
    terms: list[Term],
    model: str,
    layer: int,
    space: str | None,
    *,
    without: tuple[str, ...] = (),
) -> np.ndarray:
    """(dim,) float32: what the terms come to.

    Structures count with their sign. An element counts with the share of the atoms that is
    exchanged: those of the elements taken away, in what the structures add up to; the elements put
    in share them evenly. Its vector is the mean over its atoms in the structures of the store that
    contain the most electronegative of the elements that stay.

    without: ids whose atoms do not count in that mean.

    Raises: InvalidQuery for an element that is not there to be taken away.
    """
    table = (
        snapshot.embeddings(model, layer, "atom")
        if space is None
        else snapshot.coordinates(space, model, layer, "atom")
    )
    weights, vectors = [], []
    for term in terms:
        for query in term.ids or ([term.newcomer] if term.newcomer else []):
            weights.append(term.sign / max(1, len(term.ids)))
            vectors.append(
                inputs.resolve(snapshot, query, model, layer, space, "structure", None).vector
            )
    if shares := _exchanged(snapshot, terms):
        context = _context(snapshot, terms, set(shares))
        for number, share in shares.items():
            weights.append(share)
            vectors.append(_centroid(snapshot, table, number, context, without))
    return combine(weights, vectors)


def _known(snapshot: Snapshot, sign: int, text: str) -> Term:
    """A term as the store knows it: an id, a formula ("all" of it, or one entry) or an element.

    A file is left with its text. Raises InvalidQuery.
    """
    from pymatgen.core import Composition, Element

    if snapshot.has_structure(text):
        return Term(sign, text, (text,))
    if Path(text).exists():
        return Term(sign, text)
    wants_all, name = text.startswith("all "), text.removeprefix("all ").strip()
    try:
        composition = Composition(name)
        formula = composition.reduced_formula
        if not composition or not all(isinstance(one, Element) for one in composition):
            raise ValueError
    except (ValueError, KeyError):
        raise InvalidQuery(_unknown(snapshot, text)) from None
    ids = _entries(snapshot, formula)
    element = composition.elements[0].Z if Element.is_valid_symbol(name) else None
    if not ids and element is None:
        raise InvalidQuery(_unknown(snapshot, text))
    return Term(sign, text, tuple(ids if wants_all else ids[:1]), None, element)


def _settled(terms: list[Term]) -> list[Term]:
    """Elements among structures are exchanged; among themselves they are their crystals."""
    if any(term.element is None for term in terms):
        return [term._replace(ids=()) if term.element else term for term in terms]
    for term in terms:
        if not term.ids:
            raise InvalidQuery(
                f"the store has no crystal of {term.text}, and no other term is a structure: "
                f"{_EXAMPLE}"
            )
    return [term._replace(element=None) for term in terms]


def _entries(snapshot: Snapshot, formula: str) -> list[str]:
    """The structures of a formula, the lowest in energy first, if any property tells."""
    columns = snapshot.frame("SELECT column_name FROM (DESCRIBE structure)")["column_name"].tolist()
    energies = [quote(name) for name in _ENERGIES if name in columns]
    order = [f"TRY_CAST({energy} AS DOUBLE) NULLS LAST" for energy in energies]
    found = snapshot.rows(
        f"SELECT id FROM structure WHERE formula = ? ORDER BY {', '.join([*order, 'id'])}",
        [formula],
    )
    return [id_ for (id_,) in found]


def _unknown(snapshot: Snapshot, text: str) -> str:
    formulas = snapshot.rows(
        "SELECT formula FROM catalog.main.structures GROUP BY formula "
        "ORDER BY jaro_winkler_similarity(formula, ?) DESC, formula LIMIT 3",
        [text],
    )
    near = ", ".join(formula for (formula,) in formulas) or "none"
    return (
        f"{text!r} is no id, file, element or formula of the store (formulas like it: {near}); "
        f"{_EXAMPLE}"
    )


def _exchanged(snapshot: Snapshot, terms: list[Term]) -> dict[int, float]:
    """The weight of each exchanged element, by atomic number."""
    out = [term for term in terms if term.element and term.sign < 0]
    put_in = [term for term in terms if term.element and term.sign > 0]
    if put_in and not out:
        raise InvalidQuery(
            f"{put_in[0].text} takes no element's place: {_EXAMPLE}, or name a crystal of it by id"
        )
    shares = _composition(snapshot, terms) if out else {}
    weights: dict[int, float] = {}
    for term in out:
        assert term.element is not None
        if shares.get(term.element, 0) <= 0:
            raise InvalidQuery(f"there is no {term.text} to take away in the other terms")
        weights[term.element] = -shares[term.element]
    freed = -sum(weights.values())
    for term in put_in:
        assert term.element is not None
        weights[term.element] = weights.get(term.element, 0) + freed / len(put_in)
    return weights


def _composition(snapshot: Snapshot, terms: list[Term]) -> dict[int, float]:
    """What share of the atoms each element has, in what the structures add up to."""
    shares: dict[int, float] = {}
    for term in terms:
        for numbers in _numbers(snapshot, term):
            weight = term.sign / max(1, len(term.ids)) / len(numbers)
            for number in numbers:
                shares[number] = shares.get(number, 0) + weight
    return shares


def _numbers(snapshot: Snapshot, term: Term) -> list[list[int]]:
    """The atomic numbers of a term's structures."""
    if term.newcomer is not None:
        from platonic_store.structures import read as read_structures

        batch = next(iter(read_structures(term.text)))
        return batch.structures["numbers"].to_pylist()
    found = snapshot.rows(
        f"SELECT numbers FROM catalog.main.structures WHERE id IN ({literals(term.ids) or 'NULL'})"
    )
    return [numbers for (numbers,) in found]


def _context(snapshot: Snapshot, terms: list[Term], exchanged: set[int]) -> int | None:
    """The most electronegative element that stays, if one does."""
    from pymatgen.core import Element

    stay = [
        z for z, share in _composition(snapshot, terms).items() if share > 0 and z not in exchanged
    ]
    return max(stay, key=lambda z: (np.nan_to_num(Element.from_Z(z).X), z), default=None)


def _centroid(
    snapshot: Snapshot,
    table: VectorTable,
    number: int,
    context: int | None,
    without: tuple[str, ...],
) -> np.ndarray:
    """(dim,) mean over an element's atoms in the structures that hold `context`, else in all."""
    points = snapshot.points(table, f"atomic_number = {number}")
    ids = points.column("structure_id")
    allowed = ~np.isin(ids, without)
    if context is not None:
        holders = snapshot.frame(
            "SELECT id FROM catalog.main.structures WHERE list_contains(numbers, ?) "
            "AND list_contains(numbers, ?)",
            [number, context],
        )["id"]
        near = allowed & np.isin(ids, holders)
        allowed = near if near.any() else allowed
    if not allowed.any():
        from ase.data import chemical_symbols

        raise InvalidQuery(
            f"{table.model} has embedded no atom of {chemical_symbols[number]}: ingest a structure "
            "that has one"
        )
    return points.vectors[allowed].mean(0, dtype=np.float64)
