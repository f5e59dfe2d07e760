"""Structures as documents that an agent searches and reads."""

from typing import Any, Final
from urllib.parse import quote

from platonic_store.errors import InvalidQuery, PlatonicError
from platonic_store.explorer.search import condition
from platonic_store.json_values import plain
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import Snapshot
from platonic_store.storage.sqltext import literals
from platonic_store.storage.sqltext import quote as quoted

QUERY: Final = (
    "An id, a formula (CaTiO3), a chemical system (Ca-Ti-O), a word of a property, "
    "or an SQL condition on the columns of `structure` (band_gap > 1 AND nelements = 3)."
)
FOUND: Final = 20
_NEAREST = 5
_SITES = 40
_OWN = ("structure_id", "elements", "nelements", "content_hash", "added_at")


def url(page: str, id_: str) -> str:
    """The page of a structure."""
    return f"{page}/s/{quote(id_, safe='')}"


def search(snapshot: Snapshot, query: str, page: str) -> dict[str, Any]:
    """The first structures that a text may mean: `results`, each with id, title and url.

    Raises: InvalidQuery if it is none of what `QUERY` says.
    """
    ids = _meant(snapshot, query.strip())
    results = [
        {
            "id": row["structure_id"],
            "title": f"{row['formula']}, space group {row['spacegroup']}, {row['nsites']} atoms",
            "url": url(page, row["structure_id"]),
        }
        for row in snapshot.described(ids[:FOUND]).to_pylist()
    ]
    return {"results": results, "snapshot": snapshot.id, "found": len(ids)}


def fetch(snapshot: Snapshot, id_: str, page: str) -> dict[str, Any]:
    """A structure as a document: id, title, text, url and metadata.

    Raises: StructureNotFound.
    """
    lookup.require_structure(snapshot, id_)
    (row,) = snapshot.described([id_]).to_pylist()
    known = {name: plain(value) for name, value in row.items() if name not in _OWN}
    known = {name: value for name, value in known.items() if value is not None}
    parts = [
        f"{row['formula']} ({id_}): space group {row['spacegroup']}, {row['nsites']} atoms in a "
        f"cell of {row['volume']:.2f} Å³.",
        _cell(snapshot, id_),
        *_typicality(snapshot, id_),
        *_neighbours(snapshot, id_),
    ]
    return {
        "id": id_,
        "title": f"{row['formula']} ({id_})",
        "text": "\n\n".join(parts),
        "url": url(page, id_),
        "metadata": {**known, "snapshot": snapshot.id},
    }


def _meant(snapshot: Snapshot, text: str) -> list[str]:
    """The ids of the structures that a text means, the likeliest first."""
    if not text:
        raise InvalidQuery("the search is empty", QUERY)
    conditions = [f"structure_id = {literals([text])}"]
    if (named := condition(text)) != text:  # a formula or a chemical system
        conditions.append(named)
    words = [
        column
        for column, kind, *_ in snapshot.rows("DESCRIBE structure")
        if (kind == "VARCHAR" and column not in _OWN) or column == "structure_id"
    ]
    contains = [f"contains(lower({quoted(one)}), lower({literals([text])}))" for one in words]
    conditions.append(f"({' OR '.join(contains)})")
    order = ", ".join(f"NOT coalesce({one}, false)" for one in conditions)
    found = snapshot.rows(
        f"SELECT structure_id FROM structure WHERE {' OR '.join(conditions)} "
        f"ORDER BY {order}, len(structure_id), structure_id"
    )
    if found or not _is_condition(text):
        return [id_ for (id_,) in found]
    ids: list[str] = lookup.matching(snapshot, text, "structure")["structure_id"].tolist()
    return sorted(ids)


def _is_condition(text: str) -> bool:
    return any(sign in text for sign in "<>=(") or " " in text


def _cell(snapshot: Snapshot, id_: str) -> str:
    """The lattice vectors and the atoms, in Å."""
    ((cell,),) = snapshot.rows("SELECT cell FROM crystals WHERE structure_id = ?", [id_])
    vectors = [" ".join(f"{x:.4f}" for x in cell[3 * i : 3 * i + 3]) for i in range(3)]
    sites = snapshot.rows(
        "SELECT site_index, element, x, y, z FROM site "
        "WHERE structure_id = ? AND orbit = site_index ORDER BY site_index LIMIT ?",
        [id_, _SITES + 1],
    )
    lines = [f"{index} {element} {x:.4f} {y:.4f} {z:.4f}" for index, element, x, y, z in sites]
    if len(lines) > _SITES:
        lines[_SITES:] = ["…"]
    head = "Atoms, one for each set of equivalent ones (site, element, x y z in Å):"
    return "\n".join(["Lattice vectors (Å):", *vectors, head, *lines])


def _typicality(snapshot: Snapshot, id_: str) -> list[str]:
    found = snapshot.rows(
        "SELECT model, p, element, site_index FROM typicality WHERE structure_id = ? "
        "ORDER BY model, reference",
        [id_],
    )
    lines = [
        f"{model}: p {p:.3f}, least typical at {element}{site}" for model, p, element, site in found
    ]
    head = "Typicality (how usual it looks to a model; not confidence, not stability):"
    return ["\n".join([head, *lines])] if lines else []


def _neighbours(snapshot: Snapshot, id_: str) -> list[str]:
    from platonic_store.questions.similar import similar

    parts = []
    for model in snapshot.trained_models:
        try:
            found = similar(snapshot, id_, model=model, k=_NEAREST)
        except PlatonicError:
            continue  # this model has not embedded it
        lines = [
            f"{row.structure_id} {row.formula} {row.distance:.4f}" for row in found.itertuples()
        ]
        head = f"Most like it to {model} (id, formula, distance 1 − cosine):"
        parts.append("\n".join([head, *lines]))
    return parts
