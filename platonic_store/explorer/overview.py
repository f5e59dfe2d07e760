"""What a page needs once: models, counts, what can be coloured, filtered and asked."""

import functools
import json
from typing import Any

from platonic_store.errors import PlatonicError
from platonic_store.explorer import columns, maps, rows
from platonic_store.explorer.rows import cached
from platonic_store.plots.space_map import GROUPS, group_of
from platonic_store.questions.shared.properties import property_types
from platonic_store.sql import cookbook
from platonic_store.storage import lookup
from platonic_store.storage.layer_sets import text_of
from platonic_store.storage.snapshot import Snapshot

_STARTS = 6
CAVEATS = {
    "distance": "1 − cosine; two models' distances are not on one scale",
    "p": columns.P_WORD,
    "disagreement": columns.DISAGREE_WORD,
    "map": "near on the map is a hint; the lists below it are exact",
    "analogy": "that the right compound comes first says little: composition alone does that",
}


@cached
def overview(snapshot: Snapshot) -> dict[str, Any]:
    """The store in one JSON object."""
    kind = maps.kind(snapshot)
    return {
        "snapshot": snapshot.id,
        "structures": rows.count(snapshot, "structure"),
        "atoms": _atoms(snapshot),
        "sites": rows.count(snapshot, "atom"),
        "models": _models(snapshot),
        "map": {"method": kind.method, "note": kind.note} if kind else None,
        "no_map": "" if kind else maps.why_no_map(snapshot),
        "colours": [one._asdict() for one in columns.available(snapshot)],
        "columns": {"structure": property_types(snapshot), "atom": _site_columns(snapshot)},
        "elements": elements(),
        "groups": GROUPS,
        "caveats": CAVEATS,
        "starts": _starts(snapshot),
    }


def _atoms(snapshot: Snapshot) -> int:
    ((count,),) = snapshot.rows("SELECT sum(nsites)::BIGINT FROM catalog.main.structures")
    return int(count or 0)


def _models(snapshot: Snapshot) -> list[dict[str, Any]]:
    """A model and layer each: those on the map first, else as `similar` would take them."""
    cards = {
        name: (json.loads(card), sha)
        for name, card, sha in snapshot.rows("SELECT name, card, checkpoint_sha256 FROM model")
    }
    on_map, scored = maps.sides(snapshot), columns.scored(snapshot)
    known = {one.side for one in snapshot.tables if one.space is None} | {*on_map}
    found = []
    for name, model in snapshot.models.items():
        card, sha = cards[name]
        default = lookup.model_layer(snapshot, name)
        for side in sorted(one for one in known if one.model == name):
            own = lookup.own_layer(snapshot, side)
            found.append(
                {
                    "side": str(side),
                    "model": name,
                    "layer": text_of(side.layer),
                    "kind": model.kind,
                    "family": card.get("family"),
                    "cutoff": card.get("cutoff"),
                    "sha256": sha,
                    "licence": (card.get("license") or {}).get("weights"),
                    "is_default": side == default,
                    "has_map": side in on_map,
                    "has_scores": own in scored,
                }
            )
    return sorted(found, key=lambda one: (not one["has_map"], one["kind"] != "trained"))


def _starts(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Where to begin: the atoms on which the models disagree most."""
    if len(columns.scored(snapshot)) < 2:
        return []
    rows = snapshot.rows(
        "SELECT d.structure_id, d.site_index, s.formula, c.numbers[d.site_index + 1] "
        "FROM disagreement AS d JOIN catalog.main.structures AS s ON s.id = d.structure_id "
        "JOIN crystals AS c USING (structure_id) WHERE d.disagreement IS NOT NULL "
        f"ORDER BY d.disagreement DESC, d.p_disagreement, d.structure_id LIMIT {_STARTS}"
    )
    return [
        {"id": id_, "site": site, "formula": formula, "element": elements()[number][0]}
        for id_, site, formula, number in rows
    ]


def _site_columns(snapshot: Snapshot) -> dict[str, str]:
    return dict(snapshot.rows("SELECT column_name, column_type FROM (DESCRIBE site)"))


@functools.cache
def elements() -> list[list[Any]]:
    """By atomic number: symbol, Jmol's colour, covalent radius in Å (Cordero), chemical group."""
    from ase.data import chemical_symbols, covalent_radii
    from ase.data.colors import jmol_colors

    found: list[list[Any]] = [["X", "#888888", 0.7, ""]]
    for z, symbol in enumerate(chemical_symbols[1:104], start=1):
        colour = "#" + "".join(f"{round(255 * one):02x}" for one in jmol_colors[z])
        found.append([symbol, colour, round(float(covalent_radii[z]), 2), group_of(symbol)])
    return found


def queries(snapshot: Snapshot) -> list[dict[str, Any]]:
    """The cookbook: name, title, text, variables, and why this store cannot answer, if so."""
    found = []
    for one in cookbook.entries():
        why = ""
        try:
            cookbook.prepared(snapshot, one, {})
        except PlatonicError as error:
            why = str(error)
        variables = {
            name: {"default": v.default, "meaning": v.meaning} for name, v in one.variables.items()
        }
        found.append(
            {
                "name": one.name,
                "title": one.title,
                "text": one.text,
                "variables": variables,
                "why_not": why,
            }
        )
    return found
