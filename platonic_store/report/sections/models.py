"""Which models, with which weights, made on what."""

import json
from typing import Any

import pandas as pd

from platonic_store.plots.labels import is_control
from platonic_store.report.study import Section, Study, Table
from platonic_store.storage.snapshot import ModelLayer, Snapshot

TITLE = "Models and provenance"


def section(snapshot: Snapshot, study: Study) -> Section:
    """A row a model: weights, packages, layer, device and what it cost."""
    cards = snapshot.frame("FROM model")
    runs = snapshot.frame("FROM run ORDER BY started_at")
    ((structures, atoms, orbits),) = snapshot.rows(
        "SELECT count(*), sum(nsites)::BIGINT, sum(distinct_sites)::BIGINT "
        "FROM catalog.main.structures"
    )
    sources = snapshot.rows("SELECT DISTINCT source FROM run WHERE source IS NOT NULL")
    quarantined = snapshot.frame("SELECT model, reason FROM quarantine")
    frame = pd.DataFrame([_row(side, cards, runs) for side in study.sides])
    controls = sum(map(is_control, study.sides))
    lead = (
        f"{structures:,} structures with {atoms or 0:,} atoms, {orbits or 0:,} of them distinct by "
        f"symmetry, from {', '.join(uri for (uri,) in sources) or 'objects'}. "
        f"{len(study.sides) - controls} trained models and {controls} controls embedded them."
    )
    if missing := [
        side.model for side in study.sides if side.model not in {one.model for one in study.shared}
    ]:
        lead += f" Not in the shared space: {', '.join(missing)} (`store.project()`)."
    shown = frame.assign(
        weights_sha256=frame["weights_sha256"].str[:12] + "…",
        seconds=frame["seconds"].round().astype(int),
        atoms_per_second=frame["atoms_per_second"].fillna(0).round().astype(int),
    )
    return Section(
        TITLE,
        lead,
        [
            Table(
                shown,
                "The layer is the one this page speaks of. Seconds are the sum over the model's "
                "runs of wall time on the device named. Full hashes are in models.parquet.",
            )
        ],
        frames={"models": frame, "quarantine": quarantined},
        caveat="Controls are no potentials: composition knows an atom's element alone, SOAP its "
        "geometry alone, and a random control is a model's architecture before any training. "
        "What a control does as well as a trained model, training did not bring.",
    )


def _row(side: ModelLayer, cards: pd.DataFrame, runs: pd.DataFrame) -> dict[str, Any]:
    card = cards.set_index("name").to_dict("index")[side.model]
    mine = runs[runs["model"] == side.model]
    versions = json.loads(mine["identity"].iloc[-1]).get("versions", {}) if len(mine) else {}
    known = json.loads(card["card"])
    seconds = float(mine["seconds_wall"].sum())
    return {
        "model": side.model,
        "layer": side.layer,
        "trained_on": ", ".join(known.get("training_sets") or []) or "–",
        "structures": int(card["structures"]),
        "seconds": seconds,
        "atoms_per_second": float(mine["sites"].sum() / seconds) if seconds else float("nan"),
        "device": ", ".join(mine["device"].unique()),
        "dtype": ", ".join(mine["dtype"].unique()),
        "weights_sha256": card["checkpoint_sha256"],
        "packages": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "layers_stored": card["layers"],
    }
