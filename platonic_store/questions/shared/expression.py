"""Expressions of structures, such as `CaTiO3 - Ca + Sr`: parsed, and resolved in a store.

Operators stand between spaces, since ids have hyphens.
"""

import re
from typing import NamedTuple

from platonic_store.errors import InvalidQuery
from platonic_store.questions.shared.inputs import is_external
from platonic_store.storage.snapshot import Snapshot
from platonic_store.storage.sqltext import quote
from platonic_store.structures.records import reduced_formula

_OPERATOR = re.compile(r"(?:^|\s+)([+\-−])(?=\s|$)")
EXAMPLE = 'write it like "CaTiO3 - Ca + Sr", with a space on each side of + and -'
# The properties that say which entry of a formula is the lowest in energy, the best one first.
_ENERGIES = ("e_above_hull", "energy_above_hull", "formation_energy_per_atom", "energy_per_atom")


class Term(NamedTuple):
    """One term of an expression: its sign, its text, and what that names.

    structures: the ids or the file that it stands for, with equal weight.
    element: the atomic number, of an element that is exchanged.
    """

    sign: int
    text: str
    structures: tuple[str, ...] = ()
    element: int | None = None


def parse(expression: str) -> list[tuple[int, str]]:
    """The signs and texts of an expression's terms. Raises InvalidQuery."""
    first, *rest = _OPERATOR.split(expression.strip())
    texts = [text.strip() for text in (first, *rest[1::2])]
    signs = [1, *(1 if operator == "+" else -1 for operator in rest[::2])]
    if not first and len(texts) > 1:
        signs, texts = signs[1:], texts[1:]
    if len(texts) < 2:
        raise InvalidQuery(f"{expression!r} has one term, it needs two", EXAMPLE)
    if "" in texts:
        raise InvalidQuery(f"a term is missing in {expression!r}", EXAMPLE)
    if signs[0] < 0:
        raise InvalidQuery(f"{expression!r} must start with a positive term", EXAMPLE)
    return list(zip(signs, texts, strict=True))


def read(snapshot: Snapshot, expression: str) -> list[Term]:
    """The terms of an expression. Raises InvalidQuery, naming formulas like one that is unknown."""
    return _without_elements([_resolved(snapshot, *one) for one in parse(expression)])


def _resolved(snapshot: Snapshot, sign: int, text: str) -> Term:
    """A term: an id, a file, a formula ("all" of it, or its lowest entry) or an element."""
    from pymatgen.core import Composition, Element

    if snapshot.has_structure(text):
        return Term(sign, text, (text,))
    if is_external(text):
        return Term(sign, text, (text,))
    wants_all, name = text.startswith("all "), text.removeprefix("all ").strip()
    try:
        composition = Composition(name)
        formula = reduced_formula(composition)
        if not composition or not all(isinstance(one, Element) for one in composition):
            raise ValueError
    except (ValueError, KeyError):
        raise _unknown(snapshot, text) from None
    ids = _entries(snapshot, formula)
    element = composition.elements[0].Z if Element.is_valid_symbol(name) else None
    if not ids and element is None:
        raise _unknown(snapshot, text)
    return Term(sign, text, tuple(ids if wants_all else ids[:1]), element)


def _without_elements(terms: list[Term]) -> list[Term]:
    """Beside structures an element is one that is exchanged; alone it is its own crystal."""
    if any(term.element is None for term in terms):
        return [term._replace(structures=()) if term.element else term for term in terms]
    for term in terms:
        if not term.structures:
            raise InvalidQuery(
                f"the store has no crystal of {term.text}, and no other term is a structure",
                EXAMPLE,
            )
    return [term._replace(element=None) for term in terms]


def _entries(snapshot: Snapshot, formula: str) -> list[str]:
    """The structures of a formula, the lowest in energy first, if any property tells."""
    columns = snapshot.frame("SELECT column_name FROM (DESCRIBE structure)")["column_name"].tolist()
    energies = [quote(name) for name in _ENERGIES if name in columns]
    order = [f"TRY_CAST({energy} AS DOUBLE) NULLS LAST" for energy in energies]
    found = snapshot.rows(
        f"SELECT structure_id FROM structure WHERE formula = ? "
        f"ORDER BY {', '.join([*order, 'structure_id'])}",
        [formula],
    )
    return [id_ for (id_,) in found]


def _unknown(snapshot: Snapshot, text: str) -> InvalidQuery:
    formulas = snapshot.rows(
        "SELECT formula FROM catalog.main.structures GROUP BY formula "
        "ORDER BY jaro_winkler_similarity(formula, ?) DESC, formula LIMIT 3",
        [text],
    )
    near = ", ".join(formula for (formula,) in formulas) or "none"
    return InvalidQuery(
        f"{text!r} is no id, file, element or formula of the store (formulas like it: {near})",
        EXAMPLE,
    )
