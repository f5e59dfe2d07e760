"""Any order of work on a store, against a dict of what it must then hold."""

import os
import shutil
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import ase
import numpy as np
import pytest
import store_fakes
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from store_fakes import MODELS, content, crystals, vectors_of

from platonic_store.geometry.projection import fit, project
from platonic_store.storage import bulk, cleanup, manifest, vectors
from platonic_store.store import Store

POOL = crystals(12)
OTHERS = crystals(12, seed=1)
IDS = st.lists(st.sampled_from(list(POOL)), min_size=1, max_size=6, unique=True)


class Killed(BaseException):
    """Nothing in the program expects it."""


class StoreMachine(RuleBasedStateMachine):
    """`known`: structure → its atoms; `has`: model → structures embedded; `projected`: model →
    structures in `space`; `held`: readers of earlier snapshots with what these held; `pinned`:
    snapshot → what it held."""

    @initialize(ids=IDS)
    def begin(self, ids):
        self.folder = Path(tempfile.mkdtemp())
        self.store = Store.open(self.folder / "any.store")
        self.known: dict[str, ase.Atoms] = {}
        self.has: dict[str, set[str]] = {model: set() for model in MODELS}
        self.anchors: list[tuple[str, int]] = []
        self.every_anchor: set[str] = set()
        self.projected: dict[str, set[str]] = {}
        self.held: list[tuple[Store, dict]] = []
        self.pinned: dict[int, dict] = {}
        self.ingest(ids, MODELS[0], POOL)

    def teardown(self):
        if hasattr(self, "store"):
            if self.known:
                assert self.store.doctor()["problems"] == []
                self.earlier_snapshots_hold_what_they_did()
            shutil.rmtree(self.folder)

    @rule(ids=IDS, model=st.sampled_from(MODELS), pool=st.sampled_from([POOL, OTHERS]))
    def ingest(self, ids, model, pool):
        """What was deleted may come again as it was, or as something else."""
        new = set(ids) - self.has[model]
        given = self.of(ids, pool)
        _, (run,) = self.store.ingest(given, [model])
        assert run.structures == len(new)
        self.known |= given
        self.has[model] |= set(ids)

    def of(self, ids, pool):
        return {id_: self.known.get(id_, pool[id_]) for id_ in ids}

    @precondition(lambda self: self.known)
    @rule(model=st.sampled_from(MODELS))
    def ingest_all(self, model):
        self.store.ingest(models=[model])
        self.has[model] = set(self.known)

    @precondition(lambda self: self.known.keys() - self.every_anchor)
    @rule(data=st.data())
    def delete(self, data):
        free = sorted(self.known.keys() - self.every_anchor)
        ids = set(data.draw(st.lists(st.sampled_from(free), min_size=1, max_size=3, unique=True)))
        self.store.delete(sorted(ids))
        for id_ in ids:
            del self.known[id_]
        for structures in (*self.has.values(), *self.projected.values()):
            structures -= ids

    @precondition(lambda self: len(self.has[MODELS[0]]) >= 3)
    @rule(k=st.integers(2, 3), seed=st.integers(0, 3))
    def select_and_project(self, k, seed):
        chosen = self.store.select_anchors("random", k, model=MODELS[0], seed=seed)
        self.anchors = list(chosen.atoms.itertuples(index=False, name=None))
        anchored = {id_ for id_, _ in self.anchors}
        self.every_anchor |= anchored
        self.projected = {}
        able = [model for model in MODELS if anchored <= self.has[model]]
        for done in self.store.project(able, recipe="cosine"):
            self.space = done.space
            self.projected[done.model] = set(self.has[done.model])

    @precondition(lambda self: self.known)
    @rule()
    def doctor(self):
        self.store = Store.open(self.store.path)
        settled = self.store.doctor()
        assert (settled["problems"], settled["mended"]) == ([], [])

    @rule(ids=IDS, model=st.sampled_from(MODELS))
    def crash(self, ids, model):
        """A writer dies before anything is published: nothing has happened."""
        with patch.object(manifest, "create", side_effect=Killed), suppress(Killed):
            self.store.ingest(self.of(ids, POOL), [model])

    @precondition(lambda self: self.known and len(self.held) < 4)
    @rule()
    def hold(self):
        """A reader stays at a snapshot, opened or only remembered."""
        one = Store.open(self.store.path, at=self.store.snapshot().id)
        self.held.append((one, everything(self.store)))

    @precondition(lambda self: self.held or self.pinned)
    @rule()
    def earlier_snapshots_hold_what_they_did(self):
        with patch.object(vectors, "_cache", vectors.PointsCache()):  # from the files
            for one, expected in self.held:
                assert everything(one) == expected
            for id, expected in self.pinned.items():
                assert everything(Store.open(self.store.path, at=id)) == expected

    @precondition(lambda self: self.known)
    @rule(pins=st.booleans())
    def time_passes(self, pins):
        """Hours go by: earlier snapshots retire, and their files go, unless they are pinned."""
        if pins:
            self.store.pin(self.store.snapshot().id)
            self.pinned[self.store.snapshot().id] = everything(self.store)
        self.held = [(one, held) for one, held in self.held if one.at in self.pinned]
        for _ in range(2):
            for path in self.store.path.rglob("0*.json"):
                os.utime(path, (path.stat().st_mtime - 20_000,) * 2)
            with self.store._writing("something") as writer, writer.writing():
                pass
        assert len(self.store.snapshots()) == len({*self.pinned, *self.newest(2)})
        self.earlier_snapshots_hold_what_they_did()

    def newest(self, count: int) -> list[int]:
        last = self.store.snapshot().id
        return list(range(last - count + 1, last + 1))

    @precondition(lambda self: self.known)
    @rule()
    def copy(self):
        """To the same place again: it is brought up to date."""
        place = self.folder / "copy.store"
        self.store.copy(place)
        copied = Store.open(place)
        assert copied.snapshot().id == self.store.snapshot().id
        assert everything(copied) == everything(self.store)
        assert self.store.copy(place) == 0

    @precondition(lambda self: self.known)
    @rule()
    def holds_every_crystal_once(self):
        assert bulk_rows(self.store) == [
            (id_, atoms.numbers.tolist(), atoms.positions.ravel().tolist())
            for id_, atoms in sorted(self.known.items())
        ]

    @precondition(lambda self: any(self.has.values()))
    @rule()
    def holds_what_it_must(self):
        found = content(self.store)
        for model in MODELS:
            atoms = found.pop((None, model, 1, "atom"), {})
            expected = {
                (id_, site): vector.tobytes()
                for id_ in self.has[model]
                for site, vector in enumerate(vectors_of(self.known[id_], model, 1))
            }
            assert atoms == expected
            structures = found.pop((None, model, 1, "structure"), {})
            assert {id_ for (id_,) in structures} == self.has[model]
            if model in self.projected:
                atoms = found.pop((self.space, model, 1, "atom"))
                assert {id_ for id_, _ in atoms} == self.projected[model]

    @precondition(lambda self: any(self.has.values()))
    @rule(data=st.data(), k=st.integers(1, 5), above=st.none() | st.floats(0, 3))
    def similar_within(self, data, k, above):
        model = data.draw(st.sampled_from([model for model in MODELS if self.has[model]]))
        asked = data.draw(st.sampled_from(sorted(self.has[model])))
        where = None if above is None else f"gap > {above}"
        others = {
            id_: pooled(self.known[id_], model)
            for id_ in self.has[model] - {asked}
            if above is None or self.known[id_].info["gap"] > above
        }
        hits = self.store.similar(asked, model=model, k=k, where=where)
        agrees(hits, pooled(self.known[asked], model), others, k)

    @precondition(lambda self: any(self.projected.values()))
    @rule(data=st.data(), k=st.integers(1, 5))
    def similar_across(self, data, k):
        asks, answers = (
            data.draw(st.sampled_from([model for model in MODELS if self.projected.get(model)]))
            for _ in range(2)
        )
        asked = data.draw(st.sampled_from(sorted(self.projected[asks])))
        others = {id_: self.coordinates(id_, answers) for id_ in self.projected[answers]}
        if asks == answers:
            others.pop(asked)
        hits = self.store.similar(asked, model=asks, across=answers, space=self.space, k=k)
        agrees(hits, self.coordinates(asked, asks), others, k)

    def coordinates(self, id_: str, model: str) -> np.ndarray:
        anchors = np.stack([vectors_of(self.known[a], model, 1)[site] for a, site in self.anchors])
        return project(fit("cosine", anchors), vectors_of(self.known[id_], model, 1)).mean(axis=0)


def everything(store: Store) -> tuple[dict, list]:
    return content(store), bulk_rows(store)


def bulk_rows(store: Store) -> list[tuple]:
    crystals = "SELECT structure_id, numbers, positions FROM crystals ORDER BY structure_id"
    return store.snapshot().rows(crystals)


def pooled(atoms, model):
    return vectors_of(atoms, model, 1).mean(axis=0)


def agrees(hits, query, others, k):
    """The hits are the nearest of the others, by brute force; near ties may change places."""

    def distance(vector):
        lengths = np.linalg.norm(vector) * np.linalg.norm(query)
        return 1 - float(vector @ query) / lengths

    expected = sorted(distance(vector) for vector in others.values())[:k]
    assert hits["rank"].tolist() == list(range(1, len(expected) + 1))
    assert hits.structure_id.is_unique
    assert np.allclose(hits.distance, expected, atol=1e-5)
    for id_, found in zip(hits.structure_id, hits.distance, strict=True):
        assert abs(distance(others[id_]) - found) < 1e-5


@pytest.mark.parametrize("examples", [3, pytest.param(20, marks=pytest.mark.faults)])
def test_any_order_of_work(fakes, monkeypatch, examples):
    from hypothesis.stateful import run_state_machine_as_test

    assert store_fakes.MODELS == MODELS
    monkeypatch.setattr(bulk, "MOST_DELETED", 0.4)  # files have a few rows
    monkeypatch.setattr(cleanup, "KEEP_NUMBER", 1)
    monkeypatch.setattr(cleanup, "UNNAMED_AGE", timedelta(seconds=-1))
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=12,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
