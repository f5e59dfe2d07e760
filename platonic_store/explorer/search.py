"""Finding structures by id, formula, chemical system or SQL; the cookbook's answers."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from platonic_store.errors import InvalidQuery
from platonic_store.explorer import rows
from platonic_store.explorer.data import records
from platonic_store.questions.shared.expression import parse
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import Snapshot
from platonic_store.storage.sqltext import literals
from platonic_store.structures.records import reduced_formula

_HIDDEN = ("elements", "nelements", "content_hash", "added_at", "index", "source_elements")
_SUGGESTED = 8


def condition(text: str) -> str:
    """A filter as SQL: a chemical system (`Ca-Ti-O`, `Ca-*`), a formula, or SQL as it is."""
    if (system := chemical_system(text)) is not None:
        elements, is_open = system
        listed = f"[{literals(elements)}]"
        return f"list_has_all(elements, {listed})" if is_open else f"elements = {listed}"
    if (formula := _formula(text)) is not None:
        return f"formula = {literals([formula])}"
    return text


def chemical_system(text: str) -> tuple[list[str], bool] | None:
    """The elements of `Ca-Ti-O`, by symbol, and whether more may be there (`Ca-O-*`)."""
    from pymatgen.core import Element

    parts = [part.strip() for part in text.split("-")]
    is_open = parts[-1] == "*"
    symbols = parts[:-1] if is_open else parts
    if len(parts) < 2 or not symbols or not all(map(Element.is_valid_symbol, symbols)):
        return None
    return sorted(set(symbols)), is_open


def _formula(text: str) -> str | None:
    from pymatgen.core import Composition, Element

    if not text.replace("(", "").replace(")", "").isalnum():
        return None
    try:
        found = Composition(text)
    except (ValueError, KeyError):
        return None
    is_one = bool(found) and all(isinstance(one, Element) for one in found)
    return reduced_formula(found) if is_one else None


def search(
    snapshot: Snapshot, filters: Sequence[str], *, limit: int | None = 200
) -> dict[str, Any]:
    """The structures that meet all filters; without one, all of the store.

    Returns: total; rows, the first `limit`, with what is known of them; structures, their rows on
    the maps; atoms, the atoms' rows on the maps where a filter names a column of atoms, else None.

    Raises: InvalidQuery with what is not understood.
    """
    parts = [condition(one) for one in filters] or ["true"]
    sites = None
    wanted: set[str] | None = None
    for part in parts:
        try:
            met = lookup.matching(snapshot, part, "structure")
        except InvalidQuery as error:
            try:
                met = lookup.matching(snapshot, part, "atom")
            except InvalidQuery:
                raise error from None
            index = met["site_index"].to_numpy()
            here = set(rows.of_atoms(snapshot, met["structure_id"], index).tolist())
            sites = here if sites is None else sites & here
        ids = set(met["structure_id"])
        wanted = ids if wanted is None else wanted & ids
    found = sorted(wanted or ())
    return {
        "total": len(found),
        "rows": records(table(snapshot, found[:limit])),
        "structures": rows.of_structures(snapshot, pa.array(found, pa.string())).tolist(),
        "atoms": None if sites is None else sorted(sites - {-1}),
    }


def table(snapshot: Snapshot, ids: list[str]) -> Any:
    """What is known of structures, a row each."""
    return snapshot.describe(ids).drop(columns=list(_HIDDEN), errors="ignore")


def suggest(snapshot: Snapshot, text: str) -> list[dict[str, Any]]:
    """What a text may mean, the likeliest first: a structure to open, a filter, an analogy.

    Each has `kind` (open, filter, analogy), `text` (what it is) and `note` (what it comes to).
    """
    text = text.strip()
    if not text:
        return []
    found = [
        {"kind": "open", "text": id_, "note": f"{formula} · space group {group}"}
        for id_, formula, group in _named(snapshot, text)
    ]
    if _is_analogy(text):
        return [*found, {"kind": "analogy", "text": text, "note": "nearest to this sum"}]
    is_named = chemical_system(text) is not None or _formula(text) is not None
    if is_named or not found:
        filter_ = {"kind": "filter", "text": text, "note": _counted(snapshot, text)}
        found.insert(
            0 if is_named and not any(one["text"] == text for one in found) else 1, filter_
        )
    return found


def _named(snapshot: Snapshot, text: str) -> list[tuple[str, str, int]]:
    """Structures whose id or formula begins so, exact ones first."""
    found = snapshot.rows(
        "SELECT id, formula, spacegroup FROM catalog.main.structures "
        "WHERE starts_with(lower(id), lower($text)) OR starts_with(lower(formula), lower($text)) "
        "OR formula = $formula OR contains(lower(id), lower($text)) "
        "ORDER BY id != $text, formula != $formula, formula != $text, "
        f"NOT starts_with(lower(id), lower($text)), len(id), id LIMIT {_SUGGESTED}",
        {"text": text, "formula": _formula(text) or ""},  # type: ignore[arg-type]
    )
    return [(id_, formula, group) for id_, formula, group in found]


def _is_analogy(text: str) -> bool:
    try:
        return len(parse(text)) > 1
    except InvalidQuery:
        return False


def _counted(snapshot: Snapshot, text: str) -> str:
    try:
        total = search(snapshot, [text], limit=0)["total"]
    except InvalidQuery as error:
        return str(error)
    return f"{total:,} structure{'s' if total != 1 else ''}"


def query(
    snapshot: Snapshot, name: str, variables: dict[str, str], *, limit: int | None = 500
) -> dict[str, Any]:
    """The answer of a query of the cookbook: columns, the first `limit` rows, how many there are.

    Raises: InvalidQuery.
    """
    from platonic_store import sql

    found = sql.run(snapshot, f"@{name}", variables=variables)
    frame = found.slice(0, limit).to_pandas()
    return {"columns": list(frame.columns), "rows": records(frame), "total": found.num_rows}
