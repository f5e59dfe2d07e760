"""What one view shows: a crystal, its neighbours by two models, an analogy."""

import functools
import math
from typing import Any

import numpy as np
import pandas as pd

from platonic_store.errors import PlatonicError, worded
from platonic_store.explorer import columns
from platonic_store.questions.analogy import analogy
from platonic_store.questions.similar import similar
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import Snapshot
from platonic_store.storage.sqltext import literals

# Of larger cells a thumbnail shows the first atoms.
_MOST_ATOMS = 400


def crystal(snapshot: Snapshot, id_: str) -> dict[str, Any]:
    """A structure's cell and atoms, properties, typicality by each model, and where it came from.

    Raises: StructureNotFound.
    """
    lookup.require_structure(snapshot, id_)
    return whole(snapshot, [id_])[id_]


def whole(snapshot: Snapshot, ids: list[str]) -> dict[str, dict[str, Any]]:
    """As `crystal`, of several structures that are there."""
    cells, source = crystals(snapshot, ids), _sources(snapshot, ids)
    scores, disagreement = _typicality(snapshot, ids), _disagreement(snapshot, ids)
    hidden = ["structure_id", "elements", "content_hash", "added_at"]
    known = snapshot.describe(ids)
    properties = records(known.drop(columns=hidden))
    return {
        id_: {
            "id": id_,
            **cells[id_],
            "properties": row,
            "content_hash": content_hash,
            "source": source.get(id_),
            "typicality": scores.get(id_, []),
            "disagreement": disagreement.get(id_, {}),
        }
        for id_, row, content_hash in zip(ids, properties, known["content_hash"], strict=True)
    }


def crystals(snapshot: Snapshot, ids: list[str]) -> dict[str, dict[str, Any]]:
    """Of each id: formula, spacegroup, numbers, positions (Cartesian Å), cell (Å), orbits."""
    found = snapshot.rows(
        "SELECT c.structure_id, s.formula, s.spacegroup, c.numbers, c.positions, c.cell, c.pbc, "
        "c.orbits FROM crystals AS c JOIN catalog.main.structures AS s ON s.id = c.structure_id "
        f"WHERE c.{_among(ids)}"
    )
    return {
        id_: {
            "formula": formula,
            "spacegroup": spacegroup,
            "symbol": symbol(spacegroup),
            "numbers": numbers,
            "positions": np.round(np.reshape(positions, (-1, 3)), 4).tolist(),
            "cell": np.round(np.reshape(cell, (3, 3)), 5).tolist(),
            "pbc": pbc,
            "orbits": orbits,
        }
        for id_, formula, spacegroup, numbers, positions, cell, pbc, orbits in found
    }


@functools.cache
def symbol(number: int | None) -> str:
    """The short Hermann-Mauguin symbol of a space group: `P2_1/c`, `Pm-3m`."""
    from moyopy import SpaceGroupType

    return str(SpaceGroupType(number).hm_short).replace(" ", "") if number else ""


def _among(ids: list[str]) -> str:
    # Literals, because DuckDB would read all rows to join them with a parameter.
    return f"structure_id IN ({literals(dict.fromkeys(ids)) or 'NULL'})"


def _sources(snapshot: Snapshot, ids: list[str]) -> dict[str, str]:
    """The file from which each came first."""
    found = snapshot.rows(
        "SELECT t.structure_id, min_by(s.uri, s.first_read_at) "
        "FROM catalog.main.source_structures AS t "
        f"JOIN catalog.main.sources AS s ON s.id = t.source_id WHERE t.{_among(ids)} GROUP BY ALL"
    )
    return {id_: str(uri).rpartition("/")[2] for id_, uri in found}


def _typicality(snapshot: Snapshot, ids: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Of each id by each scored model: p of the structure, and of each of its distinct sites."""
    found: dict[str, list[dict[str, Any]]] = {}
    for side, reference in columns.scored(snapshot).items():
        chosen = f"WHERE {_among(ids)} AND reference = {literals([reference])}"
        sites: dict[str, dict[int, float]] = {}
        for id_, site, p in snapshot.rows(
            f"SELECT structure_id, site_index, p FROM atom_scores {chosen}"
        ):
            sites.setdefault(id_, {})[site] = plain(p)
        for id_, p, site, nearest, nearest_site in snapshot.rows(
            f"SELECT structure_id, p, site_index, nearest_id, nearest_site "
            f"FROM structure_scores {chosen}"
        ):
            found.setdefault(id_, []).append(
                {
                    "side": str(side),
                    "p": plain(p),
                    "site": site,
                    "nearest": nearest,
                    "nearest_site": nearest_site,
                    "sites": sites.get(id_, {}),
                }
            )
    return found


def _disagreement(snapshot: Snapshot, ids: list[str]) -> dict[str, dict[int, float]]:
    """Of each distinct site, 1 − the share of nearest typical atoms that models have in common."""
    rows = snapshot.rows(
        "SELECT structure_id, site_index, 1 - avg(agreement) FROM atom_agreement "
        f"WHERE {_among(ids)} GROUP BY ALL ORDER BY ALL"
    )
    found: dict[str, dict[int, float]] = {}
    for id_, site, value in rows:
        found.setdefault(id_, {})[site] = plain(value)
    return found


def neighbours(
    snapshot: Snapshot,
    query: Any,
    *,
    site: int | None,
    a: str,
    b: str,
    across: bool = False,
    where: str | None = None,
    k: int = 10,
) -> dict[str, Any]:
    """The k nearest of a structure, or of its atom, by model a and by model b, with the crystals.

    across: what b embedded that is nearest to where a sees the query, and the other way round.
    A row's `other` is its rank by the other model, None beyond the k nearest.

    Raises: StructureNotFound, ModelNotFound, LayerNotFound, InvalidQuery.
    """
    sides = [str(lookup.model_layer(snapshot, one)) for one in (a, b)]
    lists = []
    for asked, other in (sides, sides[::-1]):
        target = other if across and other != asked else None
        answer = _rows(
            lambda asked=asked, target=target: similar.rows(
                snapshot, query, model=asked, across=target, site=site, k=k, where=where
            )
        )
        lists.append({"side": asked, "across": target, **answer})
    return beside(snapshot, lists)


def by_analogy(
    snapshot: Snapshot, expression: str, *, a: str, b: str, where: str | None = None, k: int = 10
) -> dict[str, Any]:
    """The k structures nearest to an expression by each of two models, as of `neighbours`."""
    lists = []
    for side in (str(lookup.model_layer(snapshot, one)) for one in (a, b)):
        answer = _rows(
            lambda side=side: analogy.rows(snapshot, expression, model=side, k=k, where=where)
        )
        lists.append({"side": side, "across": None, **answer})
    return beside(snapshot, lists)


def _rows(ask: Any) -> dict[str, Any]:
    """The rows of one model's answer, or what keeps it from answering."""
    try:
        return {"rows": records(ask()), "error": None}
    except PlatonicError as error:
        return {"rows": [], "error": {"message": str(error), "hint": worded(error.hint)}}


def beside(snapshot: Snapshot, lists: list[dict[str, Any]]) -> dict[str, Any]:
    """Two lists, each row with its rank in the other, and the crystals of both."""
    ranks = [{_key(row): row["rank"] for row in one["rows"]} for one in lists]
    ids = []
    for one, other in zip(lists, ranks[::-1], strict=True):
        for row in one["rows"]:
            row["other"] = other.get(_key(row))
            ids.append(row["structure_id"])
    cells = crystals(snapshot, ids)
    for cell in cells.values():
        cell["numbers"] = cell["numbers"][:_MOST_ATOMS]
    return {
        "a": lists[0],
        "b": lists[1],
        "common": len(ranks[0].keys() & ranks[1].keys()),
        "crystals": cells,
    }


def _key(row: dict[str, Any]) -> tuple[str, int | None]:
    return row["structure_id"], row.get("site_index")


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as JSON takes them."""
    return [
        {name: plain(value) for name, value in zip(frame.columns, row, strict=True)}
        for row in frame.itertuples(index=False, name=None)
    ]


def plain(value: Any) -> Any:
    """A value as JSON takes it; None for what is missing."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    return None if pd.isna(value) else str(value)
