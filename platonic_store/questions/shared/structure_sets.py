"""Whole sets of structures as several models embed them: of a store, or embedded for a question."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa

from platonic_store.geometry.pooling import mean_by_structure, pool
from platonic_store.geometry.projection import project
from platonic_store.questions.shared import embedded_sets
from platonic_store.questions.shared.embedded_sets import EmbeddedSet
from platonic_store.questions.shared.pooled import pooled
from platonic_store.storage import lookup
from platonic_store.storage.layout import Level, Points
from platonic_store.storage.snapshot import ModelLayer, Snapshot


class StructureSet:
    """Some structures as several models embed them.

    names: (n,) what they are called, in their order. ids: (n,) unique, by which `embedded` and
    `crystals` know them; those of the store are their names. rejected: what cannot be compared, by
    name and reason. Every one of the n is embedded by all of the models.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        names: Sequence[str],
        ids: Sequence[str],
        rejected: list[tuple[str, str]],
        crystals: pd.DataFrame | None = None,
        atoms: dict[ModelLayer, Points] | None = None,
    ):
        self.snapshot = snapshot
        self.names, self.ids = np.array(names, dtype=object), np.array(ids, dtype=object)
        self.rejected = rejected
        self._crystals, self._atoms = crystals, atoms

    @property
    def is_stored(self) -> bool:
        """Whether they are structures of a store."""
        return self._atoms is None

    def are_of(self, snapshot: Snapshot) -> bool:
        """Whether they are structures of this store."""
        return self.is_stored and self.snapshot.manifest.store == snapshot.manifest.store

    def select(self, rows: np.ndarray) -> "StructureSet":
        """Some of them, without those that were rejected. rows: integers."""
        return StructureSet(
            self.snapshot, self.names[rows], self.ids[rows], [], self._crystals, self._atoms
        )

    @cached_property
    def crystals(self) -> pd.DataFrame:
        """(n,) id, formula, spacegroup, numbers, positions, cell and pbc, in their order."""
        if self._crystals is not None:
            return self._crystals.set_index("id").loc[self.ids].reset_index()
        found = self.snapshot.frame(
            "SELECT s.id, s.formula, s.spacegroup, c.numbers, c.positions, c.cell, c.pbc "
            "FROM catalog.main.structures AS s JOIN crystals AS c ON c.structure_id = s.id "
            "WHERE s.id IN (SELECT unnest(?))",
            [self.ids.tolist()],
        )
        return found.set_index("id").loc[self.ids].reset_index()

    @cached_property
    def formulas(self) -> np.ndarray:
        """(n,) reduced formulas."""
        if self._crystals is not None:
            return self.crystals["formula"].to_numpy()
        known = dict(self.snapshot.rows("SELECT id, formula FROM catalog.main.structures"))
        return np.array([known[id] for id in self.ids], dtype=object)

    def vectors(self, side: ModelLayer, space: str | None = None) -> np.ndarray:
        """(n, dim) float32: the mean over atoms of embeddings or, in a space, of coordinates."""
        if self._atoms is None:
            points = self.snapshot.points(
                lookup.vector_table(self.snapshot, side, "structure", space)
            )
            place = pd.Index(points.column("structure_id"))
            stored: np.ndarray = points.vectors[place.get_indexer(pd.Index(self.ids))]
            return stored
        points = self._atoms[side.layers[0]]
        rows = np.hstack([self._atoms[one].vectors for one in side.layers])
        if space is not None:
            rows = project(lookup.projection(self.snapshot, space, side), rows)
        owner = pd.Index(self.ids).get_indexer(pd.Index(points.column("structure_id")))
        return mean_by_structure(rows[owner >= 0], owner[owner >= 0])

    def pooled(self, side: ModelLayer, pooling: str) -> np.ndarray:
        """(n, …) float32: the atoms' embeddings pooled in another way than by their mean."""
        if self._atoms is None:
            table = lookup.vector_table(self.snapshot, side, "atom")
            known = pooled(self.snapshot, table, pooling)
            stored: np.ndarray = known.vectors[np.searchsorted(known.ids, self.ids.astype(str))]
            return stored
        points = self._atoms[side]
        owner = pd.Index(self.ids).get_indexer(pd.Index(points.column("structure_id")))
        rows = np.flatnonzero(owner >= 0)
        keys = (points.column(name)[rows] for name in ("atomic_number", "orbit"))
        return pool(pooling, points.vectors[rows], owner[rows], *keys)

    def embedded(self, side: ModelLayer, seed: int) -> EmbeddedSet:
        """Atoms and pooled vectors as references score them, sorted by `ids`."""
        if self._atoms is None:
            whole, atoms = (self._stored(side, level) for level in ("structure", "atom"))
        else:
            ids = pa.table({"structure_id": pa.array(self.ids, pa.string())})
            whole, atoms = Points(ids, self.vectors(side)), self._atoms[side]
        groups = {
            id: embedded_sets.composition(formula, seed)
            for id, formula in zip(self.ids, self.formulas, strict=True)
        }
        return embedded_sets.build_set(whole, atoms, groups)

    def _stored(self, side: ModelLayer, level: Level) -> Points:
        points = self.snapshot.points(lookup.vector_table(self.snapshot, side, level))
        rows = np.flatnonzero(pd.Index(points.column("structure_id")).isin(self.ids))
        return Points(points.keys.take(rows), points.vectors[rows])
