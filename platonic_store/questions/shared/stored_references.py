"""The reference that a store holds of a model, and the last few references in memory."""

from dataclasses import replace

from platonic_store.questions.shared import kept_references
from platonic_store.questions.shared.bounded_references import content_of, typical_set
from platonic_store.questions.shared.embedded_sets import (
    compositions,
    load_set,
    load_some,
    subset,
)
from platonic_store.questions.shared.last_few import LastFew
from platonic_store.questions.shared.references import Calibration, Reference, calibrated
from platonic_store.storage import lookup
from platonic_store.storage.snapshot import ModelLayer, Snapshot

cache: LastFew[Reference] = LastFew(4)  # calibrated ones


def stored(snapshot: Snapshot, side: ModelLayer) -> Reference | None:
    """The model's reference in the store, if there is one."""
    rows = snapshot.rows(
        "SELECT id, seed, among, settings->>'bounded' = 'true' "
        "FROM catalog.main.reference_sets WHERE model = ? AND layer = ?",
        list(side),
    )
    if not rows:
        return None
    id_, seed, among, is_bounded = rows[0]
    key = snapshot.manifest.store, id_
    if known := cache.get(key):
        return known
    kept = kept_references.read(snapshot, id_)
    calibrating = "AND part = 'calibration'"
    members = snapshot.frame(
        "SELECT structure_id, part FROM catalog.main.reference_structures "
        f"WHERE reference = ? {'' if kept is None else calibrating} ORDER BY structure_id",
        [id_],
    )
    typical = members["structure_id"][members["part"] == "typical"].to_numpy()
    if kept is not None:
        compared = kept_references.compared(kept)
    elif is_bounded:
        compared = typical_set(snapshot, side, typical, content_of(snapshot, seed))
    else:
        compared = subset(load_set(snapshot, side, seed), typical)
    found = Reference(id_, *side, seed, among, members, compared, None, bool(is_bounded))
    calibration = lookup.parameters(snapshot, lookup.calibration_name(id_))
    if calibration is not None:
        found = replace(found, calibration=Calibration.from_bytes(calibration))
    else:  # it was damaged
        ids = members["structure_id"][members["part"] == "calibration"].to_numpy()
        found = calibrated(found, load_some(snapshot, side, ids, compositions(snapshot, seed)))
    return cache.put(key, found)
