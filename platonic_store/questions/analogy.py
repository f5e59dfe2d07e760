"""The structures nearest to a sum of structures: `CaTiO3 - Ca + Sr`, `mp-1 - mp-2 + mp-3`."""

from typing import Annotated

import numpy as np
import pandas as pd

from platonic_store.errors import Call, InvalidQuery
from platonic_store.geometry.arithmetic import combine
from platonic_store.questions.shared.declaration import Column, question
from platonic_store.questions.shared.expression import EXAMPLE, Term, read
from platonic_store.questions.shared.inputs import QueryVector, external_numbers, query_vector
from platonic_store.questions.shared.nearest import nearest
from platonic_store.questions.shared.parameters import Across, K, Model, Space, Where
from platonic_store.questions.shared.tables import between
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot, VectorTable
from platonic_store.storage.sqltext import literals
from platonic_store.structures.quiet import quiet


@question(
    Column("rank", "int64", "1 is the nearest."),
    Column("structure_id", "string", "A structure of the store that is no term."),
    Column("distance", "double", "1 − cosine to what the expression comes to."),
    describes=True,
    caveat="that the right compound comes first says little: composition alone does that",
)
def analogy(
    snapshot: Snapshot,
    expression: Annotated[
        str, 'Ids, formulas, elements or files: "CaTiO3 - Ca + Sr", "mp-1 - mp-2 + mp-3".'
    ],
    *,
    model: Model = None,
    across: Across = None,
    space: Space = None,
    k: K = 10,
    where: Where = None,
) -> pd.DataFrame:
    """The k structures nearest to a sum of structures, e.g. "mp-1 - mp-2 + mp-3".

    A term is an id, a formula (its lowest entry in energy; "all SiO2" is the mean of all), a file,
    or an element to exchange: "CaTiO3 - Ca + Sr". Operators stand between spaces. The terms are not
    among the answers. That the right compound comes first says little: composition alone does that
    (docs/questions/analogy.md).

    Raises: as `similar`; InvalidQuery for a term that is unknown or missing.
    """
    asking, answering, space = between(snapshot, model, across, space)
    terms = read(snapshot, expression)
    own = {id_ for term in terms for id_ in term.structures}
    vector = QueryVector(expression_vector(snapshot, terms, asking, space))
    table = lookup.vector_table(snapshot, answering, "structure", space)
    is_across = answering.model != asking.model
    found = nearest(snapshot, table, vector, k + len(own), where, across=is_across)
    found = found[~found["structure_id"].isin(own)].head(k)
    return found.assign(rank=np.arange(1, len(found) + 1)).reset_index(drop=True)


def expression_vector(
    snapshot: Snapshot,
    terms: list[Term],
    side: ModelLayer,
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
    weights, vectors = [], []
    for term in terms:
        for query in term.structures:
            weights.append(term.sign / len(term.structures))
            vectors.append(query_vector(snapshot, query, side, space=space).vector)
    if shares := _exchanged(snapshot, terms):
        table = lookup.vector_table(snapshot, side, "atom", space)
        context = _context(snapshot, terms, set(shares))
        for number, share in shares.items():
            weights.append(share)
            vectors.append(_centroid(snapshot, table, number, context, without))
    return combine(weights, vectors)


def _exchanged(snapshot: Snapshot, terms: list[Term]) -> dict[int, float]:
    """The weight of each exchanged element, by atomic number."""
    out = [term for term in terms if term.element and term.sign < 0]
    put_in = [term for term in terms if term.element and term.sign > 0]
    if put_in and not out:
        raise InvalidQuery(
            f"{put_in[0].text} has no element to replace",
            EXAMPLE,
            "name a crystal of it by id",
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
            weight = term.sign / len(term.structures) / len(numbers)
            for number in numbers:
                shares[number] = shares.get(number, 0) + weight
    return shares


def _numbers(snapshot: Snapshot, term: Term) -> list[list[int]]:
    """The atomic numbers of a term's structures."""
    found = snapshot.rows(
        "SELECT numbers FROM crystals "
        f"WHERE structure_id IN ({literals(term.structures) or 'NULL'})"
    )
    if term.structures and not found:
        return [external_numbers(term.text)]
    return [numbers for (numbers,) in found]


@quiet()
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
            "SELECT id FROM catalog.main.structures "
            "WHERE list_has_all(elements, [element_symbol(?), element_symbol(?)])",
            [number, context],
        )["id"]
        near = allowed & np.isin(ids, holders)
        allowed = near if near.any() else allowed
    if not allowed.any():
        from ase.data import chemical_symbols

        raise InvalidQuery(
            f"{table.model} has embedded no atom of {chemical_symbols[number]}",
            Call("ingest", "SOURCE", models=[table.model]),
        )
    return np.asarray(points.vectors[allowed].mean(0, dtype=np.float64))
