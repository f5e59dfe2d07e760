"""What several models' forces say of structures and atoms, and what labels say of the forces."""

import json

import numpy as np
import pandas as pd

from platonic_store.errors import Call, InvalidQuery, ModelNotFound
from platonic_store.questions.shared.embedded_sets import composition
from platonic_store.storage import lookup
from platonic_store.storage.layout import PRIMARY_KEY
from platonic_store.storage.snapshot import Snapshot
from platonic_store.storage.sqltext import quote


def members(snapshot: Snapshot, models: list[str] | None) -> list[str]:
    """The models of a committee: those named, or one a lineage of all that have forces.

    Raises: ModelNotFound; InvalidQuery for fewer than two.
    """
    if models is None:
        ((found,),) = snapshot.rows("SELECT committee_models()")
        chosen = list(found or [])
    else:
        chosen = list(dict.fromkeys(with_forces(snapshot, name) for name in models))
    if len(chosen) < 2:
        raise InvalidQuery(
            "a committee is of two models of different lineage with forces, at least",
            Call("ingest", models=["sevennet-0", "chgnet-0.3.0"], outputs="energy,forces"),
        )
    return chosen


def with_forces(snapshot: Snapshot, name: str) -> str:
    """The model of that name, which must have forces here. Raises: ModelNotFound."""
    found = lookup.model(snapshot, name)
    if not snapshot.rows("SELECT 1 FROM atom_predictions WHERE model = ? LIMIT 1", [found]):
        raise ModelNotFound(
            f"the store has no forces by {found}",
            Call("ingest", models=[found], outputs="energy,forces"),
        )
    return found


def by_atom(snapshot: Snapshot, chosen: list[str]) -> pd.DataFrame:
    """The rows of `atom_committee_by`, sorted by their keys, each with its structure's `formula`.

    Raises: InvalidQuery if the models have no structure in common.
    """
    rows = snapshot.frame(
        "SELECT c.*, s.formula FROM atom_committee_by(?) AS c "
        "JOIN catalog.main.structures AS s ON s.id = c.structure_id "
        "ORDER BY c.structure_id, c.site_index",
        [chosen],
    )
    if rows.empty:
        raise InvalidQuery(
            f"no structure has forces by all of {', '.join(chosen)}",
            Call("ingest", models=chosen, outputs="energy,forces"),
        )
    return rows


def of_model(snapshot: Snapshot, name: str) -> pd.DataFrame:
    """A model's forces: keys and `fx`, `fy`, `fz`."""
    return snapshot.frame(
        "SELECT structure_id, site_index, fx::DOUBLE AS fx, fy::DOUBLE AS fy, fz::DOUBLE AS fz "
        "FROM atom_predictions WHERE model = ?",
        [name],
    )


def labels(snapshot: Snapshot, name: str) -> pd.DataFrame:
    """The forces (eV/Å) that a source brought as property `name`: keys and `fx`, `fy`, `fz`.

    A property is such a label where it is a list of three numbers for each site.
    """
    columns = {column.lower() for (column, *_) in snapshot.rows("DESCRIBE structure")}
    empty = pd.DataFrame(columns=[*PRIMARY_KEY["atom"], "fx", "fy", "fz"])
    if name.lower() not in columns:
        return empty
    rows = snapshot.rows(
        f"SELECT structure_id, nsites, {quote(name)}::VARCHAR FROM structure "
        f"WHERE {quote(name)} IS NOT NULL ORDER BY structure_id"
    )
    parts = [
        (id_, forces) for id_, nsites, text in rows if (forces := _forces(text, nsites)) is not None
    ]
    if not parts:
        return empty
    sizes = [len(forces) for _, forces in parts]
    fx, fy, fz = np.concatenate([forces for _, forces in parts]).T
    return pd.DataFrame(
        {
            "structure_id": np.repeat(np.array([id_ for id_, _ in parts], dtype=object), sizes),
            "site_index": np.concatenate([np.arange(size) for size in sizes]),
            **{"fx": fx, "fy": fy, "fz": fz},
        }
    )


def _forces(text: str, nsites: int) -> np.ndarray | None:
    try:
        found = np.array(json.loads(text), dtype=np.float64)
    except ValueError:
        return None
    return found if found.shape == (nsites, 3) and np.isfinite(found).all() else None


def errors(atoms: pd.DataFrame, truth: pd.DataFrame) -> np.ndarray:
    """(n,) eV/Å: the distance of the atoms' forces from the labels, NaN where there is none."""
    found = atoms[PRIMARY_KEY["atom"]].merge(truth, on=PRIMARY_KEY["atom"], how="left", sort=False)
    forces = ["fx", "fy", "fz"]
    apart = atoms[forces].to_numpy(dtype=float) - found[forces].to_numpy(dtype=float)
    return np.asarray(np.linalg.norm(apart, axis=1))


def compositions(formulas: pd.Series) -> np.ndarray:
    """(n,) a non-negative number for each formula, the same in every store."""
    codes, names = pd.factorize(formulas)
    numbers = np.array([composition(name, 0) for name in names], dtype=np.int64)
    return np.asarray((numbers & np.iinfo(np.int64).max)[codes])


def energies(snapshot: Snapshot, chosen: list[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Structures whose energies all models have: ids, energies (models, n) eV an atom, and shares
    of the elements (n, 119)."""
    rows = snapshot.frame(
        "SELECT structure_id, model, energy_per_atom FROM prediction "
        "WHERE list_contains(?, model) ORDER BY structure_id",
        [chosen],
    )
    table = rows.pivot(index="structure_id", columns="model", values="energy_per_atom")
    table = table.reindex(columns=chosen).dropna()
    numbers = dict(snapshot.rows("SELECT structure_id, numbers FROM crystals"))
    counts = [np.bincount(numbers[id_], minlength=119) for id_ in table.index]
    shares = np.array([count / count.sum() for count in counts])
    return table.index.tolist(), table.to_numpy().T, shares.reshape(len(table), 119)
