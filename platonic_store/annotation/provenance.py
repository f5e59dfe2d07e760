"""Which run wrote an annotation: what its numbers mean, and how to compute them again."""

import hashlib
import json
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot


def describe(
    snapshot: Snapshot, layers: list[ModelLayer], settings: dict[str, Any]
) -> dict[str, Any]:
    """The provenance of a run, and under `run` its id.

    The id is a digest of all that decides the answers: version, models with their weights, layers
    and references of typicality, settings, and the structures in the store. The same call on the
    same store has the same id, and records that carry it need not be written again.
    """
    weights = dict(snapshot.rows("SELECT name, checkpoint_sha256 FROM catalog.main.models"))
    rows = snapshot.rows("SELECT model, layer, id FROM catalog.main.reference_sets")
    references = {(model, layer): id for model, layer, id in rows}
    provenance = {
        "platonic_store": version("platonic-store"),
        "models": [
            {
                "model": model,
                "layer": layer,
                "checkpoint_sha256": weights[model],
                "reference": references.get((model, layer)),
            }
            for model, layer in layers
        ],
        "settings": settings,
        "store": _content(snapshot, layers),
    }
    text = json.dumps(provenance, sort_keys=True)
    return {"run": hashlib.sha256(text.encode()).hexdigest()[:16], **provenance}


def _content(snapshot: Snapshot, layers: list[ModelLayer]) -> dict[str, Any]:
    """How many structures the store holds, and a digest of them and of those embedded."""
    digest = hashlib.sha256()
    structures = snapshot.rows("SELECT id, content_hash FROM catalog.main.structures ORDER BY id")
    for pair in structures:
        digest.update("\t".join(pair).encode() + b"\n")
    for layer in layers:
        table = lookup.vector_table(snapshot, layer, "structure")
        embedded = sorted(snapshot.points(table).column("structure_id").tolist())
        digest.update("\n".join(embedded).encode() + b"\n")
    return {"structures": len(structures), "sha256": digest.hexdigest()}


def now() -> str:
    """The time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
