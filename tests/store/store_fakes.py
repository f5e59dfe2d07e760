"""Fake models, random crystals, and what a store must say of them."""

import csv
from pathlib import Path
from types import SimpleNamespace

import ase
import numpy as np
from fake.adapter import Fake, embedding

from benchmarks.made_crystals import crystals  # noqa: F401 (for the tests)
from ingest import worker
from ingest.embedder import Embedder, GraphBuilder
from platonic_store.engines import local
from platonic_store.jobs import reading
from platonic_store.runtimes import cards, forkserver, workers
from platonic_store.runtimes.batching import rebatch
from platonic_store.runtimes.cards import Card, Layer
from platonic_store.runtimes.process import Embedded
from platonic_store.store import Store

MODELS = ("fake-a", "fake-b")
FAMILY = Path(__file__).with_name("fake")


def card(name: str, quirk: str = "") -> Card:
    loader = name.removeprefix("fake-")
    return Card(
        name=name,
        family="fake",
        folder=str(FAMILY),
        loader=f"{loader}:{quirk}",
        checkpoint_sha256="f" * 64,
        elements=tuple(range(1, 90)),
        cutoff=4.0,
        conservative=True,
        equivariant=False,
        layers=(Layer(0, 8), Layer(1, 8)),
        default_layer=1,
        default_layer_reason="",
    )


class PoolOfNone:
    """Like a WorkerPool, without workers: the fake model runs in this process."""

    def __init__(self, card, layers, *, outputs=(), batch_atoms=None, **_):
        model = Fake(card.as_dict(), "cpu")
        self._builder = GraphBuilder(card.name, model.elements, model.graph)
        self._embedder = Embedder(model, layers, batch_atoms, outputs=outputs)
        self._schema = worker.answer_schema(model, self._embedder.layers, outputs)
        self.identity = worker.identity(card.as_dict(), model, self._embedder)

    def embed(self, batches, when_idle=None):
        for batch in rebatch(batches, lambda: workers.REQUEST_ATOMS):
            structures = worker.structures_of(batch)
            work = worker.Work(structures, map(self._builder, structures))
            (done,) = self._embedder.run([work])
            table, report = worker.answer(self._embedder, done, self._schema)
            rejected = worker.json.loads(report)["rejected"]
            yield Embedded(table, [tuple(pair) for pair in rejected], 0.0, 0.0, 16)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def know_fakes(
    quirk: str = "", *, small_chunks: bool = False, in_process: bool = False, patch=setattr
) -> None:
    """Make this process know the fake models, and no others.

    small_chunks: commit after every few structures. in_process: without workers.
    """
    fakes = {name: card(name, quirk) for name in MODELS}
    patch(cards, "load_cards", lambda: fakes)
    if small_chunks:
        patch(workers, "REQUEST_ATOMS", 16)
        patch(local, "CHUNK_SECONDS", -1.0)
        patch(reading, "BATCH", 4)
    if in_process:
        patch(local, "WorkerPool", PoolOfNone)
        patch(workers, "WorkerPool", PoolOfNone)
        patch(forkserver, "may_fork", lambda device: False)


def vectors_of(atoms: ase.Atoms, model: str, layer: int) -> np.ndarray:
    """(N, 8) what the fake model says of each atom."""
    given = SimpleNamespace(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell[:])
    return embedding(given, model.removeprefix("fake-"), layer)


def content(store: Store) -> dict:
    """All that a store holds of vectors, comparable with ==: {(space, model, layer, level): rows}.

    Rows are {key: vector's bytes}; raises AssertionError where a key comes twice.
    """
    found = {}
    with store.snapshot() as snapshot:
        for table in snapshot.tables:
            points = snapshot.points(table)
            columns = ["structure_id"] + ["site_index"] * (table.level == "atom")
            keys = list(zip(*(points.keys[name].to_pylist() for name in columns), strict=True))
            rows = dict(zip(keys, (v.tobytes() for v in points.vectors), strict=True))
            assert len(rows) == len(keys), f"{table.name} has rows twice"
            if rows:
                found[table.space, table.model, table.layer, table.level] = rows
    return found


def embedded(store: Store, model: str, layer: int = 1) -> set[str]:
    """Structures that readers see as embedded; all their atoms must be there."""
    found = content(store)
    structures = {key for (key,) in found.get((None, model, layer, "structure"), {})}
    sizes = dict(store.sql("SELECT structure_id, nsites FROM structure").itertuples(index=False))
    atoms = set(found.get((None, model, layer, "atom"), {}))
    assert atoms == {(id_, site) for id_ in structures for site in range(sizes[id_])}
    return structures


def pipeline(
    store: Store, pool: dict[str, ase.Atoms], folder: Path, models: tuple[str, ...] = MODELS
) -> None:
    """The main job, which may be begun again at any time: its end is always the same.

    The last fifth of the pool is deleted again, the first fifth holds the anchors.
    """
    ids = list(pool)
    fifth = len(ids) // 5
    half, victims = ids[: 3 * fifth], ids[-fifth:]
    store.ingest({id_: pool[id_] for id_ in half + victims}, models, batch_atoms=16)
    anchors = folder / "anchors.csv"
    with anchors.open("w") as file:
        rows = csv.writer(file)
        rows.writerow(["structure_id", "site_index"])
        rows.writerows([id_, 0] for id_ in ids[:fifth])
    store.select_anchors(file=anchors)
    store.project(recipe="cosine")
    print("deleting", *victims, flush=True)
    store.delete(victims)
    rest = {id_: atoms for id_, atoms in pool.items() if id_ not in victims}
    store.ingest(rest, models, layers="all", batch_atoms=16)
    store.project(recipe="cosine")
