"""Which run wrote an annotation: enough to know what its numbers mean, and to get them again."""

import hashlib
import json
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from platonic_store.storage.snapshot import ModelLayer, Snapshot


def describe(
    snapshot: Snapshot, sides: list[ModelLayer], settings: dict[str, Any]
) -> dict[str, Any]:
    """The provenance of a run, under its id `run`.

    The id is a digest of all that decides the answers: version, models with their weights, layers
    and references of typicality, settings, and the structures that the store holds. The same
    question to the same store has therefore the same id, and what carries it already need not be
    written again.
    """
    weights = dict(snapshot.rows("SELECT name, checkpoint_sha256 FROM catalog.main.models"))
    references = snapshot.rows("SELECT model, layer, id FROM catalog.main.reference_sets")
    judged = {(model, layer): id for model, layer, id in references}
    said = {
        "platonic_store": version("platonic-store"),
        "models": [
            {
                "model": model,
                "layer": layer,
                "checkpoint_sha256": weights[model],
                "reference": judged.get((model, layer)),
            }
            for model, layer in sides
        ],
        "settings": settings,
        "store": _content(snapshot, sides),
    }
    text = json.dumps(said, sort_keys=True)
    return {"run": hashlib.sha256(text.encode()).hexdigest()[:16], **said}


def _content(snapshot: Snapshot, sides: list[ModelLayer]) -> dict[str, Any]:
    """How many structures the store holds, and a digest of them and of what is embedded."""
    digest = hashlib.sha256()
    structures = snapshot.rows("SELECT id, content_hash FROM catalog.main.structures ORDER BY id")
    for pair in structures:
        digest.update("\t".join(pair).encode() + b"\n")
    for side in sides:
        table = snapshot.embeddings(*side, "structure")
        embedded = sorted(snapshot.points(table).column("structure_id").tolist())
        digest.update("\n".join(embedded).encode() + b"\n")
    return {"structures": len(structures), "sha256": digest.hexdigest()}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
