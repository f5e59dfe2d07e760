"""A structure that was sent to the service, looked at like one of the store."""

from typing import Any

import numpy as np

from platonic_store.errors import PlatonicError
from platonic_store.explorer import columns, maps
from platonic_store.explorer.data import plain, symbol
from platonic_store.questions.shared.inputs import ExternalStructure, NotYetEmbedded, identify
from platonic_store.questions.typicality import typicality
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot


def crystal(snapshot: Snapshot, row: dict[str, Any]) -> dict[str, Any]:
    """As `data.crystal`, of a row of STRUCTURE_SCHEMA; what no model has embedded yet is not there.

    places: by model where it lies on the maps, `structure` and its `atoms`, by site.
    """
    places, scores = {}, []
    for side in maps.sides(snapshot):
        try:
            known = identify(snapshot, row["id"], side)
        except (PlatonicError, NotYetEmbedded):
            continue
        assert isinstance(known, ExternalStructure)
        (whole,) = maps.place(snapshot, "structure", side, known.atoms)
        places[str(side)] = {
            "structure": whole,
            "atoms": maps.place(snapshot, "atom", side, known.atoms),
        }
        own = lookup.own_layer(snapshot, side)
        if own in columns.scored(snapshot):
            scores.append(_typicality(snapshot, row["id"], own))
    return {
        "id": row["id"],
        "formula": row["formula"],
        "spacegroup": row["spacegroup"],
        "symbol": symbol(row["spacegroup"]),
        "numbers": row["numbers"],
        "positions": np.round(np.reshape(row["positions"], (-1, 3)), 4).tolist(),
        "cell": np.round(np.reshape(row["cell"], (3, 3)), 5).tolist(),
        "pbc": row["pbc"],
        "orbits": row["orbits"],
        "properties": {"nsites": row["nsites"], "volume": plain(row["volume"])},
        "content_hash": row["content_hash"],
        "source": "sent to this service, kept for a while",
        "typicality": scores,
        "disagreement": {},
        "places": places,
    }


def _typicality(snapshot: Snapshot, id_: str, side: ModelLayer) -> dict[str, Any]:
    whole = typicality(snapshot, id_, model=str(side), level="structure").iloc[0]
    atoms = typicality(snapshot, id_, model=str(side), level="atom")
    return {
        "side": str(side),
        "p": plain(whole["p"]),
        "site": plain(whole["site_index"]),
        "nearest": whole["nearest_id"],
        "nearest_site": plain(whole["nearest_site"]),
        "sites": dict(zip(atoms["site_index"].tolist(), map(plain, atoms["p"]), strict=True)),
    }
