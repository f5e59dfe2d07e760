"""Where several models' forces differ: signs of a wrong prediction that need no label."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import pandas as pd
from annotated_types import Ge
from ase.data import chemical_symbols

from platonic_store.errors import InvalidQuery
from platonic_store.geometry.committee import energy_differences, judge
from platonic_store.questions.shared import forces
from platonic_store.questions.shared.declaration import Column, question
from platonic_store.questions.shared.parameters import K, Level, Where
from platonic_store.storage import lookup
from platonic_store.storage.layout import PRIMARY_KEY
from platonic_store.storage.snapshot import Snapshot

CAVEAT = (
    "models that share data share errors: where they agree they may be wrong together; and their "
    "spread follows the size of the forces"
)
COLUMNS = (
    Column("structure_id", "string", "The structure."),
    Column("site_index", "int32", "The atom; of a structure the one with the largest spread."),
    Column("element", "string", "The atom's element.", kind="atom"),
    Column("spread", "double", "How far the models' forces are apart; mean over atoms.", "eV/Å"),
    Column("force", "double", "Size of the force that is judged; mean over atoms.", "eV/Å"),
    Column("p", "double", "Share of the store's with at least this spread."),
    Column("expected_error", "double", "Median error that labels make expected.", "eV/Å"),
    Column("error_bound", "double", "What the error keeps below with `coverage`.", "eV/Å"),
    Column("error", "double", "The error, where there is a label.", "eV/Å"),
    Column("apart", "string", "The model farthest from the mean at that atom, of three or more."),
    Column("site_spread", "double", "The spread at that atom.", "eV/Å", kind="structure"),
    Column(
        "energy_spread",
        "double",
        "Of the models' energies, each model's references of elements apart.",
        "eV/atom",
        kind="structure",
    ),
    Column("models", "list<string>", "The committee."),
)
Members = Annotated[
    Sequence[str] | None, "Models; by default one a lineage of the trained ones with forces."
]
Judged = Annotated[
    str | None, "The model whose forces are judged; by default the committee's mean is."
]
Labels = Annotated[str, "The property of structures that holds labels of forces (eV/Å)."]
Coverage = Annotated[float, "Share of errors that keep below their bound.", Ge(0.0)]


@question(
    Column("rank", "int64", "1 is where the models differ most."),
    *COLUMNS,
    describes=True,
    caveat=CAVEAT,
)
def committee(
    snapshot: Snapshot,
    *,
    models: Members = None,
    model: Judged = None,
    level: Level = "structure",
    coverage: Coverage = 0.9,
    labels: Labels = "forces",
    where: Where = None,
    k: K = 20,
) -> pd.DataFrame:
    """The k structures (or atoms) on whose forces several models differ most.

    `spread` is the root of the sum of the sample variances of the force's components. Models of one
    family that share a training set are kin: by default the first of them stands for all. Where the
    store's structures bring labels of forces, the errors of other compositions calibrate:
    `error_bound` is conformal, `expected_error` a fit to `spread` and `force`. See
    docs/questions/committee.md.

    Raises: ModelNotFound; InvalidQuery for fewer than two models with forces of the same
    structures, or for a condition that is not understood.
    """
    rows = judged(
        snapshot, models=models, model=model, level=level, coverage=coverage, labels=labels
    )
    if where is not None:
        meeting = lookup.matching(snapshot, where, level)
        rows = rows.merge(meeting, on=PRIMARY_KEY[level])
    keys = ["spread", *PRIMARY_KEY[level]]
    order = [False, *[True] * (len(keys) - 1)]
    worst = rows.sort_values(keys, ascending=order, ignore_index=True).head(k)
    return worst.assign(rank=np.arange(1, len(worst) + 1))


def judged(
    snapshot: Snapshot,
    *,
    models: Sequence[str] | None = None,
    model: str | None = None,
    level: Level = "structure",
    coverage: float = 0.9,
    labels: str = "forces",
) -> pd.DataFrame:
    """All structures (or atoms) that all members have forces of, by their keys.

    Raises: as `committee`.
    """
    if not 0 < coverage < 1:
        raise InvalidQuery(f"coverage is a share between 0 and 1, not {coverage:g}")
    chosen = forces.members(snapshot, None if models is None else list(models))
    atoms = forces.by_atom(snapshot, chosen)
    if model is not None:
        atoms = _forces_of(atoms, forces.of_model(snapshot, forces.with_forces(snapshot, model)))
    atoms["error"] = forces.errors(atoms, forces.labels(snapshot, labels))
    rows = atoms if level == "atom" else _by_structure(snapshot, atoms, chosen)
    rows["p"] = rows["spread"].rank(ascending=False, method="max") / len(rows)
    found = judge(
        rows[["spread", "force"]].to_numpy(),
        rows["error"].to_numpy(),
        forces.compositions(rows["formula"]),
        coverage,
    )
    rows["expected_error"], rows["error_bound"] = found
    if level == "atom":
        rows["element"] = _elements(snapshot, rows)
    rows["models"] = [chosen] * len(rows)
    names = [column.name for column in COLUMNS if column.kind in ("", level)]
    return rows[names].reset_index(drop=True)


def _forces_of(atoms: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """The rows of atoms of which a model has forces, with these in place of the committee's."""
    names = ["fx", "fy", "fz"]
    rows = atoms.drop(columns=names).merge(own, on=PRIMARY_KEY["atom"])
    rows["force"] = np.linalg.norm(rows[names], axis=1)
    return rows


def _by_structure(snapshot: Snapshot, atoms: pd.DataFrame, chosen: list[str]) -> pd.DataFrame:
    """Means over atoms, and the atom with the largest spread."""
    worst = atoms.loc[atoms.groupby("structure_id")["spread"].idxmax()]
    rows = worst[["structure_id", "site_index", "formula", "apart"]].reset_index(drop=True)
    rows["site_spread"] = worst["spread"].to_numpy()
    means = atoms.groupby("structure_id")[["spread", "force", "error"]].mean()
    rows = rows.join(means, on="structure_id")
    ids, energies, shares = forces.energies(snapshot, chosen)
    differences = energy_differences(energies, shares) if ids else np.empty((len(chosen), 0))
    spread = np.sqrt((differences**2).sum(axis=0) / (len(chosen) - 1))
    rows["energy_spread"] = rows["structure_id"].map(dict(zip(ids, spread, strict=True)))
    return rows


def _elements(snapshot: Snapshot, atoms: pd.DataFrame) -> np.ndarray:
    numbers = dict(snapshot.rows("SELECT structure_id, numbers FROM crystals"))
    places = zip(atoms["structure_id"], atoms["site_index"], strict=True)
    return np.array([chemical_symbols[numbers[id_][site]] for id_, site in places], dtype=object)
