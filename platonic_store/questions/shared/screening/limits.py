"""The limits by which `screen` classes candidates, each calibrated on held-out structures."""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pandas as pd
from annotated_types import Ge, Le

from platonic_store.geometry import screening as geometry
from platonic_store.questions.shared import embedded_sets
from platonic_store.questions.shared.duplicates import first_alike
from platonic_store.questions.shared.screening.known import Known, Measured

# In the order in which one computes them.
CLASSES = ("frontier", "covered", "outside", "redundant", "implausible")
IMPLAUSIBLE = 0.001  # of known structures
OUTSIDE, SPARSE = 0.05, 0.2

Among = Annotated[str | None, 'SQL condition: what counts as known, e.g. "e_above_hull < 0.1".']
Outside = Annotated[float, "Share of held-out structures that may be called outside.", Ge(0), Le(1)]
Sparse = Annotated[
    float, "Share of held-out structures whose region is called sparse.", Ge(0), Le(1)
]


@dataclass(frozen=True, eq=False)
class Limits:
    """How candidates are classed.

    held_out: what calibrates. outside, sparse: limits of p. within: distance of near duplicates.
    shortest: contacts below it are implausible.
    """

    held_out: Measured
    outside: float
    sparse: float
    within: float
    shortest: float
    models: list[str]

    def p(self, these: Measured) -> np.ndarray:
        """(n,) share of the held-out that is as atypical to all models together."""
        return geometry.consensus_p(
            these.atypicality, self.held_out.atypicality, self._are_members(these)
        )

    def p_sparse(self, these: Measured) -> np.ndarray:
        """(n,) share of the held-out whose region is as sparse."""
        return geometry.consensus_p(these.gap, self.held_out.gap, self._are_members(these))

    def p_disagreement(self, these: Measured) -> np.ndarray:
        """(n,) share of the held-out that models disagree on as much; NaN by one model."""
        own, usual = (one.frame[["disagreement"]].to_numpy() for one in (these, self.held_out))
        if np.isnan(own).any():
            return np.full(len(own), np.nan)
        return geometry.consensus_p(own, usual, self._are_members(these))

    def outside_by(self, these: Measured) -> list[list[str]]:
        """Of each structure the models to which it is outside on its own."""
        members = self._are_members(these)
        alone = np.column_stack(
            [
                geometry.consensus_p(one[:, None], usual[:, None], members) <= self.outside
                for one, usual in zip(these.atypicality.T, self.held_out.atypicality.T, strict=True)
            ]
        )
        return [np.array(self.models)[row].tolist() for row in alone]

    def _are_members(self, these: Measured) -> np.ndarray:
        ids = these.frame["structure_id"]
        if not these.are_members:
            return np.zeros(len(ids), dtype=bool)
        return np.asarray(ids.isin(self.held_out.frame["structure_id"]))

    def classes(self, frame: pd.DataFrame) -> np.ndarray:
        """(n,) the first that fits; of shortest, duplicate_of, same_as, p and p_sparse."""
        is_alike = frame["duplicate_of"].notna() | frame["same_as"].notna()
        found: np.ndarray = np.select(
            [
                frame["shortest"] < self.shortest,
                is_alike,
                frame["p"] <= self.outside,
                frame["p_sparse"] <= self.sparse,
            ],
            ["implausible", "redundant", "outside", "frontier"],
            "covered",
        )
        return found

    def rule(self, row: "pd.Series[Any]") -> str:
        """Why a structure has its class, in a sentence."""
        if row["class"] == "implausible":
            return (
                f"two atoms at {row['shortest']:.2f} of the sum of their covalent radii; 1 in "
                f"1,000 known structures has less than {self.shortest:.2f}"
            )
        if row["class"] == "redundant":
            if row["duplicate_of"] is None:
                return f"near duplicate of the candidate {row['same_as']}"
            return (
                f"near duplicate of {row['duplicate_of']}: distance {row['distance']:.2g}, at most "
                f"{self.within:g}"
            )
        if row["class"] == "outside":
            return (
                f"{row['p']:.1%} of held-out structures are as atypical, at most {self.outside:.0%}"
            )
        return (
            f"{row['p']:.0%} of held-out structures are as atypical, {row['p_sparse']:.0%} in a "
            f"region as sparse; sparse is at most {self.sparse:.0%}"
        )


def limits_of(known: Known, outside: float, sparse: float, within: float) -> Limits:
    """The limits that these shares of the held-out structures give."""
    return Limits(
        known.held_out,
        outside,
        sparse,
        within,
        float(np.quantile(known.contacts, IMPLAUSIBLE)),
        [str(side) for side in known.references],
    )


def rates(known: Known, limits: Limits) -> pd.DataFrame:
    """Each rule's limit, the share of held-out structures that it should meet, and does meet.

    Measured is by halves of the held-out compositions: each is judged by the other alone.
    """
    held_out = limits.held_out
    half = _halves(known, held_out.frame["structure_id"])
    contacts = known.contacts
    even = np.arange(len(contacts)) % 2 == 0
    below = [
        (contacts[part] < np.quantile(contacts[~part], IMPLAUSIBLE)).mean()
        for part in (even, ~even)
    ]
    everything = known.everything
    seen = known.element_means(everything)
    first = first_alike(seen.vectors, everything.formulas, seen.within(limits.within))
    is_alike = first < np.arange(len(first))
    groups = everything.crystals["spacegroup"].to_numpy()
    others = groups[is_alike] != groups[first[is_alike]]
    shown = [
        (
            "implausible",
            "shortest distance over the sum of covalent radii is less",
            limits.shortest,
            "known structures below",
            IMPLAUSIBLE,
            float(np.mean(below)),
            len(contacts),
        ),
        (
            "redundant",
            "distance to a structure of its formula is at most",
            limits.within,
            "known near duplicates of other space groups",
            np.nan,
            float(others.mean()) if len(others) else np.nan,
            int(is_alike.sum()),
        ),
        (
            "outside",
            "p is at most",
            limits.outside,
            "held-out structures called outside",
            limits.outside,
            geometry.cross_fitted_rate(held_out.atypicality, limits.outside, half),
            len(half),
        ),
        (
            "frontier",
            "p_sparse is at most",
            limits.sparse,
            "held-out structures whose region is called sparse",
            limits.sparse,
            geometry.cross_fitted_rate(held_out.gap, limits.sparse, half),
            len(half),
        ),
    ]
    names = ["class", "rule", "limit", "of", "expected", "measured", "structures"]
    return pd.DataFrame(shown, columns=names)


def _halves(known: Known, ids: pd.Series) -> np.ndarray:
    """(n,) bool: one half of the compositions."""
    formulas = dict(known.snapshot.rows("SELECT id, formula FROM catalog.main.structures"))
    return np.array([embedded_sets.composition(formulas[id], 1) % 2 == 0 for id in ids])
