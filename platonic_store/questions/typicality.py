"""Outliers: which crystals lie where a model has seen little else."""

import numpy as np
import pandas as pd

from platonic_store.errors import InvalidQuery
from platonic_store.geometry.typicality import nearest_elsewhere
from platonic_store.snapshot import Snapshot

CAVEAT = (
    "typicality is not confidence: the score says how unlike the rest of this store an "
    "environment looks to the model, not how wrong the model is"
)


def outliers(
    snapshot: Snapshot,
    *,
    model: str | None = None,
    layer: int | None = None,
    neighbours: int = 5,
    k: int = 20,
) -> pd.DataFrame:
    """The k least typical structures, each by its least typical atom.

    An atom's atypicality is its mean distance (1 − cosine) to the nearest `neighbours` among the
    distinct atoms of all other structures, in the model's own embeddings: no labels, no training
    set. The frame has rank, atypicality, id, the site and element that caused it, the nearest
    atom elsewhere (nearest_id, nearest_site), and the columns of the `structure` view.

    Raises: ModelNotFound, LayerNotFound, InvalidQuery with too few structures.
    """
    model = snapshot.model(model)
    layer = snapshot.layer(model, layer)
    points = snapshot.points(snapshot.embeddings(model, layer, "atom"))
    distinct = np.flatnonzero(points.column("site_index") == points.column("orbit"))
    atoms = points.keys.take(distinct).to_pandas()
    groups, _ = pd.factorize(atoms["structure_id"])
    if groups.max(initial=-1) < neighbours:
        raise InvalidQuery(
            f"{neighbours} neighbours need more than {neighbours} structures by {model}: "
            "ingest more"
        )
    distances, indices = nearest_elsewhere(points.vectors[distinct], groups, neighbours)
    atoms["atypicality"] = distances.mean(axis=1)
    atoms["nearest_id"] = atoms["structure_id"].to_numpy()[indices[:, 0]]
    atoms["nearest_site"] = atoms["site_index"].to_numpy()[indices[:, 0]]
    worst = atoms.loc[atoms.groupby("structure_id")["atypicality"].idxmax()]
    worst = worst.sort_values(["atypicality", "structure_id"], ascending=[False, True]).head(k)
    return _described(snapshot, worst)


def _described(snapshot: Snapshot, worst: pd.DataFrame) -> pd.DataFrame:
    elements = dict(snapshot.rows("SELECT DISTINCT atomic_number, element FROM site"))
    frame = pd.DataFrame(
        {
            "rank": np.arange(1, len(worst) + 1),
            "atypicality": worst["atypicality"].to_numpy(),
            "id": worst["structure_id"].to_numpy(),
            "site_index": worst["site_index"].to_numpy(),
            "element": [elements[z] for z in worst["atomic_number"]],
            "nearest_id": worst["nearest_id"].to_numpy(),
            "nearest_site": worst["nearest_site"].to_numpy(),
        }
    )
    return frame.merge(snapshot.describe(frame["id"].tolist()), on="id", how="left")
