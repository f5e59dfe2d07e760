"""The functions that Python answers: what `queries/functions.sql` wraps into macros.

Each calls one question, row by row, with the question's own names of arguments and columns.
"""

import numpy as np
import pandas as pd

from platonic_store.questions import align as alignment
from platonic_store.questions import analogy as analogies
from platonic_store.questions import bias, neighbours, transport, typicality
from platonic_store.questions import similar as search
from platonic_store.questions import stitch as stitching
from platonic_store.questions.shared import inputs
from platonic_store.sql.registry import Function
from platonic_store.storage.snapshot import Snapshot


def _asked(snapshot: Snapshot, text: str) -> str | np.ndarray:
    """An id as it is, or a vector that SQL handed over as text."""
    if text.startswith("[") and not snapshot.has_structure(text):
        return np.array(text[1:-1].split(","), dtype=np.float32)
    # SQL names what is in the store; only `similar` on the command line reads files.
    snapshot.require_structure(text)
    return text


def _similar(
    snapshot: Snapshot, query: str | None, site, model, layer, across, space, k, condition, distance
) -> pd.DataFrame | None:
    if query is None:
        return None
    return search.find(
        snapshot,
        _asked(snapshot, query),
        model=model,
        layer=layer,
        across=across,
        space=space,
        site=site,
        k=k,
        where=condition,
        distance=distance,
    )


def _embedding(snapshot: Snapshot, query: str | None, site, model, layer, space) -> list | None:
    if query is None:
        return None
    vector = _asked(snapshot, query)
    found = inputs.vector(snapshot, vector, model=model, layer=layer, space=space, site=site)
    return found.tolist()


def _analogy(
    snapshot: Snapshot, expression: str | None, model, layer, across, space, k, condition
) -> pd.DataFrame | None:
    if expression is None:
        return None
    return analogies.find(
        snapshot,
        analogies.read(snapshot, expression),
        model=model,
        layer=layer,
        across=across,
        space=space,
        k=k,
        where=condition,
    )


def _neighbours(
    snapshot: Snapshot, model, layer, across, space, k, level, condition
) -> pd.DataFrame:
    return neighbours.neighbours(
        snapshot,
        model=model,
        layer=layer,
        across=across,
        space=space,
        k=k,
        level=level,
        where=condition,
    )


def _stitch(
    snapshot: Snapshot, from_: str | None, to: str | None, property: str | None, space, seed
) -> pd.DataFrame | None:
    if from_ is None or to is None or property is None:
        return None
    return stitching.stitch(snapshot, from_, to, property, space=space, seed=seed)


def _typicality(snapshot: Snapshot, query: str | None, model, layer, level) -> pd.DataFrame | None:
    if query is None:
        return None
    waiting = typicality.gather(snapshot, query, model=model, layer=layer, level=level)
    return typicality.judge(waiting, level)


def _outliers(snapshot: Snapshot, model, layer, k, level) -> pd.DataFrame:
    waiting = typicality.gather(snapshot, model=model, layer=layer, level=level)
    return typicality.outliers(typicality.judge(waiting, level), k)


def _bias(snapshot: Snapshot, model, by, k, seed) -> pd.DataFrame:
    compared = bias.gather(snapshot, model, seed=seed)
    return bias.bias(compared, by=by or bias.BY, k=k, seed=seed)


def _merged(snapshot: Snapshot, model, k, seed) -> pd.DataFrame:
    return bias.merged(bias.gather(snapshot, model, seed=seed), k=k)


def _alignment(
    snapshot: Snapshot, a: str | None, b: str | None, space, atoms, seed
) -> pd.DataFrame | None:
    if a is None or b is None:
        return None
    seen = alignment.gather(snapshot, [a, b], space=space, atoms=atoms, seed=seed)
    return alignment.compute(seen, seed=seed)


def _transport(
    snapshot: Snapshot, a: str | None, b: str | None, space, atoms, seed
) -> pd.DataFrame | None:
    if a is None or b is None:
        return None
    return transport.transport(snapshot, a, b, space=space, atoms=atoms, seed=seed)


def _transport_distance(
    snapshot: Snapshot, a: str | None, b: str | None, model, layer, across, space
) -> float | None:
    if a is None or b is None:
        return None
    return transport.transport_distance(
        snapshot, a, b, model=model, layer=layer, across=across, space=space
    )


_TEXT, _WHOLE, _REAL = "VARCHAR", "INTEGER", "DOUBLE"
_JUDGED = {
    "id": _TEXT,
    "model": _TEXT,
    "layer": _WHOLE,
    "atypicality": _REAL,
    "p": _REAL,
    "distance": _REAL,
    "density": _REAL,
    "residual": _REAL,
    "site_index": _WHOLE,
    "element": _TEXT,
    "nearest_id": _TEXT,
    "nearest_site": _WHOLE,
    "nearest_distance": _REAL,
    "reference": _TEXT,
}

FUNCTIONS = (
    Function(
        "_similar",
        [_TEXT, _WHOLE, _TEXT, _WHOLE, _TEXT, _TEXT, _WHOLE, _TEXT, _TEXT],
        {"rank": "BIGINT", "distance": _REAL, "id": _TEXT, "site_index": _WHOLE},
        _similar,
    ),
    Function(
        "_analogy",
        [_TEXT, _TEXT, _WHOLE, _TEXT, _TEXT, _WHOLE, _TEXT],
        {"rank": "BIGINT", "distance": _REAL, "id": _TEXT},
        _analogy,
    ),
    Function(
        "_neighbours",
        [_TEXT, _WHOLE, _TEXT, _TEXT, _WHOLE, _TEXT, _TEXT],
        {
            "id": _TEXT,
            "site_index": _WHOLE,
            "rank": "BIGINT",
            "neighbour": _TEXT,
            "neighbour_site": _WHOLE,
            "distance": _REAL,
        },
        _neighbours,
    ),
    Function(
        "_stitch",
        [_TEXT, _TEXT, _TEXT, _TEXT, _WHOLE],
        dict.fromkeys(["way", "readout", "fed"], _TEXT)
        | dict.fromkeys(["r2", "low", "high", "mae", "ratio"], _REAL)
        | dict.fromkeys(["n_train", "n_test", "folds"], "BIGINT"),
        _stitch,
    ),
    Function("_typicality", [_TEXT, _TEXT, _WHOLE, _TEXT], _JUDGED, _typicality),
    Function("_outliers", [_TEXT, _WHOLE, _WHOLE, _TEXT], {"rank": "BIGINT", **_JUDGED}, _outliers),
    Function(
        "_alignment",
        [_TEXT, _TEXT, _TEXT, _WHOLE, _WHOLE],
        {"a": _TEXT, "b": _TEXT, "layer_a": _WHOLE, "layer_b": _WHOLE, "measure": _TEXT}
        | dict.fromkeys(["value", "null", "null_high", "calibrated", "p", "low", "high"], _REAL)
        | {"atoms": "BIGINT", "structures": "BIGINT", "space": _TEXT},
        _alignment,
    ),
    Function(
        "_transport",
        [_TEXT, _TEXT, _TEXT, _WHOLE, _WHOLE],
        dict.fromkeys(["a", "b", "space", "element"], _TEXT)
        | {"atoms": "BIGINT", "cost": _REAL, "error": _REAL, "method": _TEXT}
        | dict.fromkeys(["cost_paired", "cost_chance", "spread", "difference"], _REAL)
        | {
            f"own_{of}{what}": _REAL
            for of in ("atom", "element", "group")
            for what in ("", "_chance", "_null")
        },
        _transport,
    ),
    Function(
        "_transport_distance",
        [_TEXT, _TEXT, _TEXT, _WHOLE, _TEXT, _TEXT],
        _REAL,
        _transport_distance,
    ),
    Function(
        "_bias",
        [_TEXT, "VARCHAR[]", _WHOLE, _WHOLE],
        dict.fromkeys(["model", "kind", "value"], _TEXT)
        | {"structures": "BIGINT"}
        | dict.fromkeys(["overlap", "overlap_others", "effect", "p", "p_any"], _REAL),
        _bias,
    ),
    Function(
        "_merged",
        [_TEXT, _WHOLE, _WHOLE],
        {"rank": "BIGINT"}
        | dict.fromkeys(["model", "id", "other", "formula", "formula_other"], _TEXT)
        | {"spacegroup": _WHOLE, "spacegroup_other": _WHOLE}
        | dict.fromkeys(["distance", "elsewhere", "effect", "p"], _REAL),
        _merged,
    ),
    Function("_embedding", [_TEXT, _WHOLE, _TEXT, _WHOLE, _TEXT], "FLOAT[]", _embedding),
)
