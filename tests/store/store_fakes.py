"""Fake models, random crystals, and what a store must say of them."""

from pathlib import Path
from types import SimpleNamespace

import ase
import numpy as np
from fake_potential import embedding

from platonic_store.runtimes import cards, workers
from platonic_store.runtimes.cards import Card, Layer
from platonic_store.store import Store

MODELS = ("fake-a", "fake-b")
ADAPTER = Path(__file__).with_name("fake_potential.py")


def card(name: str, quirk: str = "") -> Card:
    loader = name.removeprefix("fake-")
    return Card(
        name=name,
        family="fake",
        adapter=str(ADAPTER),
        loader=f"{loader}:{quirk}",
        requires=("numpy",),
        checkpoint_sha256="f" * 64,
        elements=tuple(range(1, 90)),
        cutoff=4.0,
        conservative=True,
        equivariant=False,
        layers=(Layer(0, 8), Layer(1, 8)),
        default_layer=1,
        default_layer_reason="",
    )


def know_fakes(quirk: str = "", request_atoms: int = workers.REQUEST_ATOMS) -> None:
    """Make this process know the fake models, and ask for so many atoms at a time."""
    fakes = {name: card(name, quirk) for name in MODELS}
    cards.load_cards = lambda: fakes
    workers.REQUEST_ATOMS = request_atoms


def crystals(count: int, seed: int = 0) -> dict[str, ase.Atoms]:
    """Random triclinic crystals of 1 to 6 atoms, none closer than 1.2 Å; ids "c0" and on."""
    rng = np.random.default_rng(seed)
    found: dict[str, ase.Atoms] = {}
    while len(found) < count:
        cell = np.diag(rng.uniform(4, 7, 3)) + rng.uniform(-0.8, 0.8, (3, 3))
        size = int(rng.integers(1, 7))
        atoms = ase.Atoms(
            rng.integers(1, 80, size), scaled_positions=rng.random((size, 3)), cell=cell, pbc=True
        )
        near = atoms.get_all_distances(mic=True)[np.triu_indices(size, 1)]
        if not near.size or near.min() > 1.2:
            name = f"c{len(found)}"
            atoms.info["gap"] = round(float(rng.uniform(0, 3)), 3)
            found[name] = atoms
    return found


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
    sizes = dict(store.sql("SELECT id, nsites FROM structure").itertuples(index=False))
    atoms = set(found.get((None, model, layer, "atom"), {}))
    assert atoms == {(id_, site) for id_ in structures for site in range(sizes[id_])}
    return structures
